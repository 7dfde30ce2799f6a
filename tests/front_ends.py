"""What tests of front ends share: specifications, signals that sound like speech, and their graphs."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from speechc.ir.graph import Graph, Module
from speechc.ir.interpreter import run
from speechc.ir.text import retyped
from speechc.passes.front_end.reference import graph_of
from speechc.passes.front_end.spec import parse

# All that stream; every option that changes the graph is in one of them.
STREAM = (
    "kaldi-fbank{bins=40}",
    "kaldi-fbank{bins=20,use_energy=True,raw_energy=False,energy_floor=1.0,use_power=False,window=hamming}",
    "kaldi-fbank{bins=20,snip_edges=False}",
    "kaldi-fbank{bins=40,sample_rate=8000}+stack{of=3}",
    "mfcc",
    "mfcc{bins=20,mels=30,use_energy=False,htk_compat=True,snip_edges=False,frame_length=20}",
    "log-mel{bins=40}",
    "log-mel{n_fft=512,win_length=320,hop_length=160,bins=32,power=1,cepstra=13,log=ln,floor=1e-6,guard=add}",
    "log-mel{like=librosa,sample_rate=16000,n_fft=512,hop_length=128,bins=32,maximum=15}",
    "log-mel{like=librosa,sample_rate=16000,n_fft=400,hop_length=160,bins=32,center=False,top_db=0,power=1.5}",
    "log-mel{n_fft=512,win_length=400,hop_length=160,bins=32,center=False}",
    "kaldi-fbank{bins=20,frame_length=20,frame_shift=25,snip_edges=False}",
    "log-mel{like=nemo}+cumulative{variance=False}",
    "whisper{maximum=1.5}",
    "whisper{maximum=1.5}+fixed{mean=0.2,std=0.5}",
    "kaldi-fbank{bins=20}+cumulative",
    "kaldi-fbank{bins=20}+cumulative{on=std,eps=0.1}+stack",
)
# Whole utterances only.
WHOLE = (
    "whisper",
    "whisper{bins=128}",
    "log-mel{like=librosa,sample_rate=16000,n_fft=400,hop_length=160,bins=32}",
    "log-mel{like=nemo}+utterance{unbiased=True,on=std}",
    "kaldi-fbank{bins=20}+utterance{variance=False}",
)


def chirp(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    """A chirp through the whole band, louder and softer, over noise 26 dB below: float32 [samples]."""
    t = np.arange(int(rate * seconds)) / rate
    wave = np.sin(2 * np.pi * (80 * t + 0.2 * rate / seconds * t**2)) * (0.6 + 0.4 * np.sin(9 * t))
    return (0.3 * wave + 0.01 * np.random.default_rng(seed).standard_normal(t.size)).astype(np.float32)


def noise(rate: int, seconds: float, seed: int = 1) -> np.ndarray:
    """Noise whose spectrum falls by 6 dB an octave, as that of speech does, in bursts, with an offset."""
    random = np.random.default_rng(seed)
    n = int(rate * seconds)
    brown = np.cumsum(random.standard_normal(n))
    brown -= np.convolve(brown, np.ones(200) / 200, "same")
    bursts = 0.05 + np.abs(np.sin(np.arange(n) * 12 / rate))
    made = brown * bursts
    return (0.2 * made / np.abs(made).max() + 0.01 + 0.0005 * random.standard_normal(n)).astype(np.float32)


def recordings(rate: int) -> list[np.ndarray]:
    """A few spoken digits as a file of 16 bits holds them, where `SPEECHC_DIGITS` names their folder; else none.

    Noise 80 dB below full scale, that of a good microphone, fills the bands above half of their own rate, where there
    would be nothing but the rounding of float32.
    """
    folder = os.environ.get("SPEECHC_DIGITS")
    if not folder:
        return []
    soundfile, soxr = pytest.importorskip("soundfile"), pytest.importorskip("soxr")
    found = [soundfile.read(p, dtype="float32") for p in sorted(Path(folder).rglob("*.wav"))[::500][:4]]
    random = np.random.default_rng(3)
    made = [soxr.resample(audio, own, rate) for audio, own in found]
    noisy = [a + 1e-4 * random.standard_normal(a.size) for a in made]
    return [(np.round(a * 32768) / 32768).astype(np.float32) for a in noisy]


def signals(rate: int) -> list[np.ndarray]:
    """What front ends are compared on, float32 [samples] each."""
    return [chirp(rate, 1.3), noise(rate, 0.9), *(r for r in recordings(rate) if len(r) > 0.2 * rate)]


@lru_cache
def graph(text: str) -> Graph:
    """The graph of a specification, for one utterance."""
    return graph_of(parse(text))


def features(text: str, audio: np.ndarray) -> np.ndarray:
    """The features of one utterance, f32[frames, width]."""
    return run(graph(text), {"audio": audio[None]})[0][0]


@lru_cache
def wide(text: str) -> Module:
    """The graph of a specification in float64."""
    return retyped(Module({"features": (made := graph(text))}, made.weights))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference over the largest value (over 1 where all are 0)."""
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / (np.abs(b).max() or 1.0))

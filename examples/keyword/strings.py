"""Strings of spoken digits with the places of the keyword, made from single recordings; what was found in them."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from model import KEYWORD, SAMPLE_RATE

sys.path.insert(0, str(Path(__file__).parent.parent / "digits"))
from data import Clip, colour, level, mix, noise, read_clips, read_takes, stretch, trim

LATE = 0.5  # seconds after the end of the keyword in which it counts as found
Found = Sequence[tuple[float, float]]  # (begin, end) of detections in seconds


@dataclass(frozen=True)
class String:
    """Audio f32[T], and (begin, end) in seconds of every keyword in it."""

    audio: np.ndarray
    keywords: list[tuple[float, float]]


def clips(folder: Path, takes: Iterable[int]) -> list[Clip]:
    """Recordings of digits without the silence around them."""
    return [Clip(c.speaker, c.digits, trim(c.audio)) for c in read_takes(folder, takes)]


def spoken(voices: Path, test: bool) -> list[Clip]:
    """Single digits of synthesised voices (examples/digits/synthesise.py): those held out (`test`), or the others."""
    return [Clip(c.speaker, c.digits, trim(c.audio)) for c in read_clips(voices, test) if len(c.digits) == 1]


def string(clips: list[Clip], seconds: float, snr: tuple[float, float], draw: np.random.Generator) -> String:
    """Digits of any speakers with pauses between, a quarter of them the keyword, in noise `snr` dB below.

    The keyword is never said twice in a row, which would be one detection.
    """
    size = round(seconds * SAMPLE_RATE)
    wanted = [c for c in clips if c.digits == [KEYWORD]]
    others = [c for c in clips if c.digits != [KEYWORD]]
    audio, keywords, at = np.zeros(size, np.float32), [], int(draw.uniform(0, 0.6) * SAMPLE_RATE)
    pool = others
    while True:
        pool = wanted if pool is others and draw.random() < 1 / 3 else others
        clip = pool[draw.integers(len(pool))]
        spoken = level(stretch(clip.audio, draw.uniform(0.85, 1.15)), 10 ** (draw.uniform(-9, 0) / 20))
        if at + len(spoken) > size:
            break
        audio[at : at + len(spoken)] += spoken
        if pool is wanted:
            keywords.append((at / SAMPLE_RATE, (at + len(spoken)) / SAMPLE_RATE))
        at += len(spoken) + int(draw.choice([draw.uniform(0, 0.1), draw.uniform(0.1, 1.0)]) * SAMPLE_RATE)
    audio = mix(colour(audio, draw), draw.uniform(*snr), draw)
    return String(level(audio, 10 ** (draw.uniform(-25, 0) / 20)), keywords)


def hiss(seconds: float, draw: np.random.Generator) -> String:
    """Noise alone, of any kind and level."""
    sound = noise(round(seconds * SAMPLE_RATE), draw)
    return String(level(sound, draw.uniform(0.001, 0.5)), [])


def strings(folder: Path, takes: Iterable[int], count: int, snr: tuple[float, float], seed: int) -> list[String]:
    """A set of strings of 8 s; the last tenth are noise alone."""
    draw, recorded = np.random.default_rng(seed), clips(folder, takes)
    made = [string(recorded, 8, snr, draw) for _ in range(count - count // 10)]
    return made + [hiss(8, draw) for _ in range(count // 10)]


@dataclass
class Score:
    """Keywords said, those missed, detections where there was none, and hours of audio."""

    said: int = 0
    missed: int = 0
    false: int = 0
    hours: float = 0.0

    @property
    def rejects(self) -> float:
        """The share of keywords that were missed."""
        return self.missed / max(1, self.said)

    @property
    def accepts(self) -> float:
        """Detections an hour where there was no keyword."""
        return self.false / self.hours


def score(heard: Callable[[np.ndarray], Found], tests: Iterable[String]) -> Score:
    """How well `heard` finds the keywords: one is found by a detection that begins within it or up to 0.5 s later."""
    total = Score()
    for test in tests:
        open_ = list(test.keywords)
        for begin, _ in heard(test.audio):
            at = next((k for k in open_ if k[0] <= begin <= k[1] + LATE), None)
            if at is not None:
                open_.remove(at)
            elif not any(k[0] <= begin <= k[1] + LATE for k in test.keywords):
                total.false += 1
        total.said += len(test.keywords)
        total.missed += len(open_)
        total.hours += len(test.audio) / SAMPLE_RATE / 3600
    return total

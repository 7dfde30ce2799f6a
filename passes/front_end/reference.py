"""What a manifest says of features: the specification in full, a hash of it, and what a fixed signal becomes."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any

import numpy as np

from ...ir.graph import Builder, Graph, Loc
from ...ir.interpreter import run as interpret
from ...ir.types import Tensor, time_input
from .spec import PATH, Spec

REVISION = 1  # of the definitions: another one where the same text means other numbers
SIGNAL = (
    "x[n] = 0.25 sin(2 pi (100 t + 0.2 rate t^2)) + 0.05 r[n], t = n / rate; r[n] = u[n] / 2^31 - 1, "
    "u[n] = (1664525 u[n-1] + 1013904223) mod 2^32, u[-1] = 1; rate is the sample rate"
)
FRAMES = 24  # that the signal gives at least
DIGITS = 6  # of the reference vector


def signal(rate: int, samples: int) -> np.ndarray:
    """The fixed signal, float32 [samples]: a chirp from 100 Hz up, with noise (Numerical Recipes' generator)."""
    t = np.arange(samples) / rate
    state, noise = 1, np.empty(samples)
    for n in range(samples):
        state = (1664525 * state + 1013904223) % 2**32
        noise[n] = state / 2**31 - 1
    return (0.25 * np.sin(2 * np.pi * (100 * t + 0.2 * rate * t**2)) + 0.05 * noise).astype(np.float32)


def graph_of(spec: Spec, batch: int = 1) -> Graph:
    """The graph of a front end alone: `audio` f32[batch, samples] to `features` f32[batch, frames, width]."""
    from ...ir.expr import symbol

    graph = Graph("features")
    audio = graph.input("audio", Tensor("f32", [batch, time_input(symbol("samples"), "audio")]))
    graph.output(spec.build(Builder(graph, Loc(PATH, str(spec))), audio), "features")
    return graph


def features(spec: Spec, audio: np.ndarray, graph: Graph | None = None) -> np.ndarray:
    """The features of audio f32[N, samples], f32[N, frames, width], by the interpreter."""
    return interpret(graph or graph_of(spec, len(audio)), {"audio": np.asarray(audio, np.float32)})[0]


def digest(spec: Spec) -> str:
    """The hash of a definition: all options, numbers of files included, and the revision of the definitions."""
    text = f"{REVISION} " + "+".join(p.content() for p in spec.parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def facts(spec: Spec, name: str, inside: bool) -> dict[str, Any]:
    """What a manifest says: `input` takes these features, or (`inside`) the file computes them of audio.

    `spec` names all options. `reference` are the features of one frame of a signal of so many samples.
    """
    samples = max(spec.least, spec.samples(FRAMES))
    made = features(spec, signal(spec.sample_rate, samples)[None])[0]
    frame = len(made) // 2
    shift = Fraction(1000 * spec.shift, spec.sample_rate)
    return {
        "spec": spec.text(every=True),
        "asked": str(spec),
        "input": name,
        "inside": inside,
        "sample_rate": spec.sample_rate,
        "bins": spec.width,
        "frame_shift": spec.shift,
        "frame_shift_ms": int(shift) if shift.denominator == 1 else float(shift),
        "hash": digest(spec),
        "reference": {
            "signal": SIGNAL,
            "samples": samples,
            "frames": len(made),
            "frame": frame,
            "values": [float(f"{v:.{DIGITS}g}") for v in made[frame]],
        },
    }

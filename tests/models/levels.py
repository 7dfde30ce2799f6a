"""Models that hear loudness: a word for every level, so that a recording made in a test has a text that is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.types import Dim, Tensor, Time, time_input
from speechc.lowering.target import target
from speechc.passes.base import Context, make
from speechc.passes.front_end.reference import facts
from speechc.passes.front_end.spec import parse

RATE, FRAME = 8000, 80  # Hz; samples in a frame: 10 ms
WORDS = ("<blank>", "one", "two", "three", "four")
LEVELS = tuple(0.2 * i for i in range(len(WORDS)))  # mean magnitudes
T = symbol("T")


def speak(text: str, rate: int = RATE, frames: int = 4) -> np.ndarray:
    """A recording, float32[n], of words: 40 ms of the level of each, 40 ms of silence around them."""
    levels = [0.0]
    for word in text.split():
        levels += [LEVELS[WORDS.index(word)], 0.0]
    each = FRAME * frames * rate // RATE
    sign = np.where(np.arange(len(levels) * each) // (rate // 400) % 2 == 0, 1.0, -1.0)  # a square wave of 200 Hz
    return (np.repeat(levels, each) * sign).astype(np.float32)


def levels(chunk: int | None = None, bias: float = 0.0, most: int | None = None) -> Module:
    """audio [1, T] to scores [1, T // 80, 5] of words; with `chunk` (samples) its step. `bias` shifts levels heard."""
    module = Module()
    g, b = _begin(module, chunk)
    weight, offset = 2 * np.array(LEVELS), -(np.array(LEVELS) ** 2)
    level = _level(g, b)
    scores = b.conv(
        level,
        g.weight("w", weight.astype(np.float32).reshape(-1, 1, 1)),
        g.weight("b", (offset + weight * bias).astype(np.float32)),
    )
    g.output(b.transpose(scores, perm=(0, 2, 1)), "scores")
    return _meta(module, chunk, most, tokens=list(WORDS))


def voice(chunk: int | None = None, bias: float = 0.0, **about) -> Module:
    """audio [1, T] to the probability [1, T // 80, 1] that a frame is loud; `about`: what the manifest says of it."""
    module = Module()
    g, b = _begin(module, chunk)
    loud = b.conv(
        _level(g, b), g.weight("w", np.full((1, 1, 1), 40, np.float32)), g.weight("b", np.float32([bias - 12]))
    )
    g.output(b.transpose(b.sigmoid(loud), perm=(0, 2, 1)), "voice")
    return _meta(module, chunk, None, detect=about) if about else _meta(module, chunk, None)


def featured(spec: str, bins: int, layout: str = "tb", chunk: int | None = None) -> Module:
    """Features to their absolute values, as the manifest says they are: [1, T, bins] ("tb") or [1, bins, T] ("bt")."""
    module = Module()
    g = module.graph("main")
    time = time_input(T, "audio") if chunk is None else Dim(chunk, Time("audio", Fraction(1), 0, T))
    x = g.input("x", Tensor("f32", [1, time, bins] if layout == "tb" else [1, bins, time]))
    g.output(Builder(g, Loc("abs")).abs(x), "y")
    known = facts(parse(spec), "x", inside=False)
    hz = str(Fraction(known["sample_rate"], known["frame_shift"]))
    module.meta = {"sample_rate": known["sample_rate"], "tick_hz": hz, "features": known}
    if chunk is not None:
        module.meta["streaming"] = {"chunk": chunk, "clock": "audio", "symbol": "T", "batch": 1}
    return module


def counting() -> Module:
    """A model that is called with 80 samples at a time, and keeps in a state how many calls there were: [1, 1]."""
    module = Module()
    g = module.graph("main")
    x, count = g.input("audio", Tensor("f32", [1, FRAME])), g.state("count", Tensor("f32", [1, 1]))
    b = Builder(g, Loc("counter"))
    after = b.add(b.read(count), b.const(1.0, "f32"))
    b.write(count, after)
    g.output(b.add(after, b.mul(b.mean(x, axes=(1,), keepdims=True), b.const(0.0, "f32"))), "calls")
    module.meta = {"sample_rate": RATE}
    return module


def emitted(module: Module, path: Path) -> Path:
    """The ONNX file of a module."""
    to = target("onnx")
    for p in to.legalize_for("float32"):
        make(p).run(module.main, Context())
    to.emit(module, path, "float32", {})
    return path


def _begin(module: Module, chunk: int | None):
    g = module.graph("main")
    time = time_input(T, "audio") if chunk is None else Dim(chunk, Time("audio", Fraction(1), 0, T))
    g.input("audio", Tensor("f32", [1, time]))
    return g, Builder(g, Loc("ear"))


def _level(g, b: Builder):
    """The mean magnitude of every frame, [1, 1, frames]."""
    audio = g.inputs[0]
    wide = b.reshape(b.abs(audio), shape=(1, 1, audio.type.shape[1].size))
    mean = g.weight("mean", np.full((1, 1, FRAME), 1 / FRAME, np.float32))
    return b.conv(wide, mean, None, stride=(FRAME,))


def _meta(module: Module, chunk: int | None, most: int | None, **more) -> Module:
    module.meta = {"sample_rate": RATE, "tick_hz": RATE, "limits": {"T": [FRAME, most]}} | more
    if chunk is not None:
        module.meta["streaming"] = {"chunk": chunk, "clock": "audio", "symbol": "T", "batch": 1}
    return module

"""Step graphs made by hand, with the whole they stand for: what streaming sessions are tested on."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.types import Dim, Tensor, Time, time_input

T = symbol("T")
BIG = 1 << 30


def _input(n: int, channels: int, chunk: int) -> Tensor:
    return Tensor("f32", [n, channels, Dim(chunk, Time("audio", 1, 0, T))])


def _weights(channels: int, kernel: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, channels, kernel)).astype(np.float32) / kernel


def causal(chunk: int = 4, batch: int = 1, channels: int = 3) -> tuple[Module, Module]:
    """(whole, step) of a causal convolution over 3 frames: no delay, no clock."""
    whole, step, w = Module(), Module(), _weights(channels, 3)
    g = whole.graph("main")
    x = g.input("x", Tensor("f32", [batch, channels, time_input(T, "audio")]))
    y = Builder(g, Loc("front.conv")).conv(x, g.weight("w", w), None, pad=((2, 0),))
    g.output(Builder(g, Loc("front")).relu(y), "y")

    g = step.graph("main")
    x = g.input("x", _input(batch, channels, chunk))
    s = g.state("front.conv.history", Tensor("f32", [batch, channels, 2]))
    b = Builder(g, Loc("front.conv"))
    y = b.conv(b.history(x, s, axis=2, lead=2), g.weight("w", w), None)
    g.output(Builder(g, Loc("front")).relu(y), "y")
    for module, size in ((whole, None), (step, chunk)):
        module.meta = {"tick_hz": 100}
        if size:
            module.meta["streaming"] = {"chunk": size, "clock": "audio", "symbol": "T", "batch": batch}
            module.meta["state_batch"] = {"front.conv.history": 0}
    return whole, step


def late(chunk: int = 4, batch: int = 1, channels: int = 3) -> tuple[Module, Module]:
    """(whole, step) of a symmetric convolution over 5 frames, every other one: one frame late, with a clock.

    A second output carries the largest value of every frame of the input itself, without delay.
    """
    whole, step, w = Module(), Module(), _weights(channels, 5)
    g = whole.graph("main")
    x = g.input("x", Tensor("f32", [batch, channels, time_input(T, "audio")]))
    b = Builder(g, Loc("front.conv"))
    g.output(b.conv(x, g.weight("w", w), None, stride=(2,), pad=((2, 2),)), "y")
    g.output(Builder(g, Loc("peak")).max(x, axes=(1,)), "peak")

    g = step.graph("main")
    x = g.input("x", _input(batch, channels, chunk))
    n = g.input("n_valid", Tensor("i32", [batch]))
    history = g.state("front.conv.history", Tensor("f32", [batch, channels, 4]))
    seen, end = (
        g.state("clock.seen", Tensor("i32", [batch])),
        g.state("clock.end", Tensor("i32", [batch]), BIG),
    )
    b = Builder(g, Loc("clock"))
    i32 = lambda number: b.const(number, "i32")
    start, ended = b.read(seen), b.less(n, i32(chunk))
    total = b.minimum(b.read(end), b.where(ended, b.add(start, n), i32(BIG)))
    b.write(seen, b.add(start, i32(chunk)))
    b.write(end, total)
    place = b.reshape(b.iota(size=chunk, dtype="i32"), shape=(1, 1, chunk))
    real = b.less(place, b.reshape(n, shape=(batch, 1, 1)))

    def window(length, delay, frames, rate):
        at = b.floor_div(b.mul(start, i32(rate.numerator)), i32(rate.denominator))
        ends = [b.sub(i32(delay), at), b.sub(b.add(length, i32(delay)), at)]
        bound = [b.minimum(b.maximum(e, i32(0)), i32(frames)) for e in ends]
        return b.concat(*(b.reshape(e, shape=(batch, 1)) for e in bound), axis=1)

    outputs = [("y", window(b.floor_div(b.add(total, i32(1)), i32(2)), 1, chunk // 2, Fraction(1, 2)))]
    outputs.append(("peak", window(total, 0, chunk, Fraction(1))))
    b = Builder(g, Loc("front.conv"))
    masked = b.retime(b.where(real, x, b.const(0.0, "f32")), axis=2, to=x.type.shape[2])
    y = b.conv(b.history(masked, history, axis=2, lead=2, trail=2), g.weight("w", w), None, stride=(2,))
    g.output(y, "y")
    g.output(Builder(g, Loc("peak")).max(x, axes=(1,)), "peak")
    for name, value in outputs:
        g.output(value, f"{name}.range")
    whole.meta = {"tick_hz": 100}
    step.meta = {
        "tick_hz": 100,
        "streaming": {"chunk": chunk, "clock": "audio", "symbol": "T", "batch": batch},
        "state_batch": {"front.conv.history": 0, "clock.seen": 0, "clock.end": 0},
    }
    return whole, step

"""Draws the parts of random graphs for passes: weights, products and norms in variants, with what ops may carry."""

from __future__ import annotations

import random

from op_cases import Drawing, per_channel
from speechc.ir.graph import Loc, Value

GRID = {"scale": 0.03125, "zero_point": 3}  # holds -4.09 ... 3.88


class Idioms(Drawing):
    """A drawing that makes its choices evenly, by a seed, with attributes that ops may carry."""

    def __init__(self, seed: int):
        super().__init__(lambda _: seed)
        self.random = random.Random(seed)

    def int(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def flag(self) -> bool:
        return self.random.random() < 0.5

    def pick(self, options):
        return self.random.choice(list(options))

    def begin(self, name: str, number: int) -> None:
        """At the start of an idiom: at most one of its ops will carry something, most often none."""
        self.b.loc = Loc(f"net.{name}{number}", "Case", "case.py:1")
        self.waiting = self.int(1, 16)

    def carry(self, *but: str) -> dict:
        """Nothing, mostly; else one of the attributes that every arithmetic op may have, but not those in `but`."""
        self.waiting -= 1
        if self.waiting:
            return {}
        options = {"then": "relu", "out": ("i8", GRID["scale"], GRID["zero_point"]), "dynamic": "tensor"}
        name = self.pick([n for n in options if n not in but])
        return {name: self.pick(("tensor", "row")) if name == "dynamic" else options[name]}

    def vector(self, n: int, values: str = "normal") -> Value:
        return self.weight([n], "f32", values)

    def matrix(self, out: int, inputs: int) -> Value:
        """Weights of a matrix product; now and then in 8 bits."""
        return per_channel(self, (out, inputs), 0) if self.int(0, 9) == 9 else self.weights(out, inputs, dtype="f32")

    def linear(self, x: Value, units: int | None = None, **carried) -> Value:
        units = self.int(2, 8) if units is None else units
        w = self.matrix(units, x.type.sizes[-1])
        return self.b.linear(x, w, self.maybe(lambda: self.vector(units)), **carried)

    def conv(self, x: Value, taps: int | None = None, last: bool = False, **carried) -> Value:
        """A convolution over [N, C, T] ([N, T, C] where `last`), of 1 to 3 taps."""
        c, taps = x.type.sizes[-1 if last else 1], self.int(1, 3) if taps is None else taps
        out = self.int(2, 6)
        w = self.weights(out, c, *[taps] * (x.type.rank - 2), dtype="f32")
        one, pad = [1] * (x.type.rank - 2), [(taps // 2, taps // 2)] * (x.type.rank - 2)
        b = self.maybe(lambda: self.vector(out))
        return self.b.conv(x, w, b, pad=pad, stride=one, dilation=one, channel_last=last, **carried)

    def norm(self, x: Value, axis: int, **carried) -> Value:
        n = x.type.sizes[axis]
        more = [self.vector(n), self.vector(n), self.vector(n), self.vector(n, "positive")]
        return self.b.batch_norm(x, *more, axis=axis, **carried)

    def first(self, x: Value) -> Value:
        """[N, T, C] as [N, C, T]."""
        return self.b.transpose(x, perm=(0, 2, 1))

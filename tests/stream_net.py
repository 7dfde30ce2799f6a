"""Small graphs over one streaming input, and what tests of step graphs made of them share."""

import numpy as np
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.text import clone
from speechc.ir.types import Tensor, time_input
from speechc.ir.verifier import verify
from speechc.passes.base import Context, make

T = symbol("T")
LENGTHS = (5, 23, 14)
TOLERANCE = 1e-10  # of the largest output: float64, summed in another order


class Net(Builder):
    """Builds a graph over x: f32[batch, 3, T]; weights by number."""

    def __init__(self, batch):
        self.module, self.batch = Module(), batch
        super().__init__(self.module.graph("main"), Loc("net.layer", "Layer", "net.py:1"))
        self.random = np.random.default_rng(7)
        self.x = self.graph.input("x", Tensor("f32", [batch, 3, time_input(T, "audio")]))

    def w(self, *shape, scale=1.0):
        array = (scale * self.random.uniform(-1, 1, shape)).astype(np.float32)
        return self.graph.weight(f"w{len(self.graph.weights)}", array)

    def late(self, x, right=1):
        """x through a convolution that looks ahead: its frames come later."""
        return self.conv(x, self.w(3, 3, 2 * right + 1), self.w(3), pad=((right, right),))

    def rows(self, x):
        return self.transpose(x, perm=(0, 2, 1))

    def heads(self, y, count=2, size=3):
        """[batch, heads, T, size]"""
        z = self.reshape(self.linear(y, self.w(count * size, y.type.sizes[2])), shape=(self.batch, T, count, size))
        return self.transpose(z, perm=(0, 2, 1, 3))

    def band(self, chunk, left, right):
        i = self.floor_div(self.iota(size=T), self.const(chunk, "i64"))
        i, j = self.reshape(i, shape=(T, 1)), self.reshape(i, shape=(1, T))
        back = self.less_equal(self.sub(i, j), self.const(left, "i64"))
        return self.logical_and(back, self.less_equal(self.sub(j, i), self.const(right, "i64")))


def step_of(module, streams, chunk=4, **options):
    step = clone(module)
    text = ", ".join(f"{k}={v!r}" for k, v in {"chunk": chunk, "batch": streams, **options}.items())
    make(f"streaming{{{text}}}").run(step.main, Context())
    step.main.sweep()
    verify(step)
    return step


def assert_alike(got, want):
    assert got.shape == want.shape
    if want.size:
        assert np.abs(got - want).max() <= TOLERANCE * max(1.0, np.abs(want).max())


def signals(lengths, seed=0):
    return np.random.default_rng(seed).standard_normal((len(lengths), 3, max(lengths)))

"""What the proof of a compilation takes for rounding: 1e-4, or ten times what the model's own arithmetic rounds."""

from __future__ import annotations

import numpy as np
import pytest
from speechc.compiler.check import prove
from speechc.ir.errors import NumericalError
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.types import Tensor

X = np.random.default_rng(0).standard_normal(64).astype(np.float32)


def lossy(far: float) -> Module:
    """y = (x + far) - far, which rounds as numbers of that size do."""
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("net"))
    x = g.input("x", Tensor("f32", [64]))
    c = b.const(far, "f32")
    g.output(b.sub(b.add(x, c), c), "y")
    return module


class File:
    """A file that gives what the graph does, and an error on top of it."""

    def __init__(self, module: Module, error: float):
        self.module, self.error = module, error

    def reset(self) -> None: ...

    def run_named(self, feeds):
        (y,) = run(self.module.main, feeds)
        y = y.copy()
        y[0] += self.error * np.abs(y).max()
        return {"y": y}


@pytest.mark.parametrize(
    ("far", "error", "holds"),
    [
        (0.0, 8e-5, True),
        (0.0, 2e-4, False),  # nothing rounds: 1e-4 it is
        (3000.0, 2e-4, True),  # rounds by 5e-5 of the largest output
        (3000.0, 9e-4, False),  # but not by that
        (300000.0, 2e-3, False),  # whatever rounds: not more than 1e-3
    ],
)
def test_a_file_may_round_ten_times_as_much_as_the_model(far, error, holds):
    module = lossy(far)
    model = lambda feed: run(module.main, feed)
    check = lambda: prove(model, module, lambda: File(module, error), [{"x": X}], "float32")
    if holds:
        check()
        return
    with pytest.raises(NumericalError, match="SC502"):
        check()

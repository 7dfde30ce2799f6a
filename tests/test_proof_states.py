"""The proof of a model with states of its own: several calls in turn, the states of each carried on by itself."""

from itertools import pairwise

import numpy as np
import pytest
import speechc
from speechc.compiler.in_turn import CALLS, calls_of, interpreted
from speechc.ir.errors import NumericalError
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.text import save
from speechc.ir.types import Tensor
from speechc.lowering.onnx.run import OnnxSession

X = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)


def echo(states: bool = True) -> Module:
    """y = x + 0.5 * the input of the call before, which starts as zeros."""
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("net"))
    x = g.input("x", Tensor("f32", [1, 64]))
    before = g.state("before", x.type) if states else x
    g.output(b.add(x, b.mul(before, b.const(0.5, "f32"))), "y")
    if states:
        b.write(before, x)
    return module


def test_calls_differ_and_carry_their_states():
    graph = echo().main
    calls = calls_of(graph, {"x": X})
    xs = [c["x"] for c in calls]
    assert len(xs) == CALLS and all(not np.array_equal(a, b) for a, b in pairwise(xs))
    (y,) = interpreted(graph, *calls)
    assert np.allclose(y, [a + 0.5 * b for a, b in zip(xs, [np.zeros_like(X), *xs])])
    alone = calls_of(echo(states=False).main, {"x": X})
    assert len(alone) == 1 and alone[0]["x"] is X
    (y,) = interpreted(echo(states=False).main, *alone)
    assert np.array_equal(y, 1.5 * X)


@pytest.mark.parametrize(("precision", "code"), [("float32", "SC502"), ("float16", "SC503")])
def test_a_file_that_forgets_its_state_is_refused(precision, code, tmp_path, monkeypatch):
    save(echo(), tmp_path / "echo.sir")
    out = tmp_path / "out"
    out.mkdir()
    run_named = OnnxSession.run_named

    def forgetting(self, feeds):
        made = run_named(self, feeds)
        self.reset()
        return made

    make = lambda name: speechc.compile(tmp_path / "echo.sir", {"x": X}, output=out / name, precision=precision)
    monkeypatch.setattr(OnnxSession, "run_named", forgetting)
    with pytest.raises(NumericalError, match="the emitted file is not the model") as error:
        make("bad.onnx")
    assert error.value.code == code and list(out.iterdir()) == []
    if precision == "float32":
        assert "it is the states" in str(error.value)
    monkeypatch.undo()
    assert make("good.onnx").path.exists()

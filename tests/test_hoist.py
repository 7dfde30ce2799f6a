"""What is constant all along a stream moves to the graph that gives it, with its weights and no other's."""

import numpy as np
import pytest
from speechc.ir.graph import Builder, Module
from speechc.ir.interpreter import run
from speechc.ir.text import clone
from speechc.ir.types import Tensor
from speechc.passes.hoist import append, hoisted

EYE = np.eye(2, dtype=np.float32)


def module(inputs: dict[str, str], build) -> Module:
    made = Module()
    g = made.graph("main")
    b = Builder(g)
    values = [g.input(name, Tensor("f32", sizes)) for name, sizes in inputs.items()]
    weight = lambda name, array: g.weight_value(made.weights.add(name, array))
    g.output(build(b, weight, *values), "y" if len(inputs) > 1 else "memory")
    return made


@pytest.mark.parametrize("same", [True, False])
def test_weights_of_one_name_in_two_graphs(same):
    """The giver's `w` and the taker's stay apart, and both graphs still find theirs; equal ones become one."""
    giver = module({"x": (3, 2)}, lambda b, w, x: b.matmul(x, w("w", 2 * EYE)))

    def both(b, w, x, memory):
        v = w("w", (2 if same else 3) * EYE)
        return b.add(b.matmul(x, v), b.matmul(memory, v))

    taker = module({"x": (3, 2), "memory": (3, 2)}, both)
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    (wanted,) = run(taker.main, {"x": x, "memory": 2 * x})
    early, rest = hoisted(taker.main, ["memory"])
    append(giver.main, early)
    assert [w.name for w in giver.weights] == ["w"] if same else ["w", "w.1"]
    (port,) = (v.name for v in rest.inputs if v.name != "x")
    for g in (giver, clone(giver)):
        given = dict(zip(g.main.output_names, run(g.main, {"x": x})))
        for r in (rest, clone(Module({"main": rest}, rest.weights)).main):
            np.testing.assert_array_equal(run(r, {"x": x, port: given[port]})[0], wanted)

"""Text of graphs: read back equal, wrong text refused by line."""

import numpy as np
import pytest
from hypothesis import given, settings
from op_cases import random_graph
from speechc.ir import interpreter, text
from speechc.ir.errors import IRError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.types import Dim, Tensor, Time, parse_type, time_input
from speechc.ir.verifier import verify

T = symbol("T")


@given(random_graph(12))
@settings(max_examples=60, deadline=None)
def test_random_graphs_are_read_back(case):
    module = Module({case.graph.name: case.graph}, case.graph.weights)
    printed = str(module)
    again = text.parse_module(printed)
    assert str(again) == printed
    verify(again)


def test_types_are_read_back():
    for t in (
        "f32[]",
        "f32[1, 80, T@audio]",
        "f32[1, (2*((T+1)//4)-3)@audio(1/160), 256]",
        "f32[1, 32@audio(1/4, d=3, n=T//4)]",
        "i8[256, 80]{scale=$w.scale, zero=0, axis=0}",
        "i8[1, T]{scale=0.0125, zero=-4}",
    ):
        assert str(parse_type(t)) == t
    step = Tensor("f32", [1, Dim(8, Time("audio", 1, 2, T))])
    assert parse_type(str(step)) == step


def example() -> Module:
    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [1, 4, time_input(T, "audio")]))
    b = Builder(graph, Loc("encoder.conv", "Conv1d", "model.py:12"))
    w = b.weight("encoder.conv.weight", np.arange(24, dtype=np.float32).reshape(2, 4, 3))
    y = b.conv(x, w, None, stride=(2,), pad=((1, 1),))
    graph.output(b.mul(y, b.const(0.5, "f32")), "y")
    return module


def test_what_a_line_says():
    lines = str(example()).splitlines()
    assert lines[1] == "graph main(%x: f32[1, 4, T@audio]) {"
    assert lines[3].endswith('@"encoder.conv" Conv1d model.py:12')
    assert "f32[1, 2, ((T+1)//2)@audio(1/2)]" in lines[3]
    assert lines[-2] == '  return %1 as "y"'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(T+1)//2", "T//2", "the text says"),
        ("conv(", "convolve(", "no op called convolve"),
        ("%0, f32", "%7, f32", "%7 is not defined"),
        ("stride=[2]", "strides=[2]", "no attribute strides"),
        ("speechc 1", "speechc 9", "not speechc 1 text"),
    ],
)
def test_wrong_text_is_refused(old, new, message):
    printed = str(example())
    assert old in printed
    with pytest.raises(Exception, match=message):
        text.parse_module(printed.replace(old, new))


def test_files_keep_weights(tmp_path):
    module = example()
    text.save(module, tmp_path / "g.sir")
    again = text.load(tmp_path / "g.sir")
    feeds = {"x": np.ones((1, 4, 9), np.float32)}
    np.testing.assert_array_equal(interpreter.run(again.main, feeds)[0], interpreter.run(module.main, feeds)[0])
    assert again.main == module.main


def test_text_without_weights_says_so(tmp_path):
    text.save(example(), tmp_path / "g.sir", weights=False)
    again = text.load(tmp_path / "g.sir")
    with pytest.raises(IRError, match="not here"):
        interpreter.run(again.main, {"x": np.ones((1, 4, 9), np.float32)})

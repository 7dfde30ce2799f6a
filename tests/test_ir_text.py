"""Text of graphs: read back equal, wrong text refused by line."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from op_cases import random_graph
from safetensors.numpy import save_file
from speechc.ir import interpreter, text
from speechc.ir.errors import IRError, UsageError
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


# -- texts and weights files that do not go together, or are no such thing ---------------------------------------------
def saved(tmp_path) -> Path:
    text.save(example(), tmp_path / "g.sir")
    return tmp_path / "g.sir"


def test_weights_of_another_text_are_refused(tmp_path):
    path = saved(tmp_path)
    save_file({"encoder.conv.weight": np.ones((2, 4, 3), np.float32)}, path.with_suffix(".safetensors"))
    feeds = {"x": np.ones((1, 4, 9), np.float32)}
    with pytest.raises(UsageError, match=r"\$encoder.conv.weight in .*g.safetensors") as error:
        interpreter.run(text.load(path).main, feeds)
    assert error.value.code == "SC107"
    path.write_text(re.sub(r"#[0-9a-f]{8}", "#?", path.read_text()))
    interpreter.run(text.load(path).main, feeds)  # says that any will do
    save_file({"encoder.conv.weight": np.ones((2, 4, 5), np.float32)}, path.with_suffix(".safetensors"))
    with pytest.raises(UsageError, match="is not the one"):
        interpreter.run(text.load(path).main, feeds)


def derived() -> Module:
    """A weight computed from another, and a scalar one."""
    module = example()
    b = Builder(module.main)
    w = module.main.weight("encoder.conv.weight")
    twice = b.derived("twice", "2*", w.type, lambda a: 2 * a, w)
    module.main.output(b.add(b.reshape(twice, shape=(24,)), b.weight("one", np.array(1, np.float32))), "z")
    return module


def test_a_recipe_is_told_from_contents(tmp_path):
    module = derived()
    printed = str(module)
    assert re.search(r"\$twice: .* #~[0-9a-f]{8}$", printed, re.M) and str(text.parse_module(printed)) == printed
    text.save(module, tmp_path / "g.sir")
    assert "~" not in (tmp_path / "g.sir").read_text()
    again = text.load(tmp_path / "g.sir")
    assert again.weights["twice"].array[1, 3, 2] == 46 and again.weights["one"].array.shape == ()
    arrays = {w.name: w.array for w in module.weights} | {"twice": np.zeros((2, 4, 3), np.float32)}
    save_file(arrays, tmp_path / "g.safetensors")
    with pytest.raises(UsageError, match="twice"):
        text.load(tmp_path / "g.sir").weights["twice"].array  # noqa: B018
    text.save(module, tmp_path / "recipe.sir", weights=False)
    save_file(arrays, tmp_path / "recipe.safetensors")
    assert not text.load(tmp_path / "recipe.sir").weights["twice"].array.any()  # a recipe cannot be checked


def test_files_have_the_same_mode(tmp_path):
    path = saved(tmp_path)
    assert path.stat().st_mode == path.with_suffix(".safetensors").stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.safetensors", "g.sir"]


def test_a_damaged_weights_file(tmp_path):
    path = saved(tmp_path)
    path.with_suffix(".safetensors").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="damaged") as error:
        text.load(path)
    assert error.value.code == "SC107"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (r" #[0-9a-f]{8}", "", "SC100"),
        (r"f32\[2, 4, 3\]", "f99[2]", "SC100"),
        (r'as "y"', "as y", "SC100"),
        (r"stride=\[2\]", "stride=", "SC100"),
        (r"stride=\[2\]", "stride=" + "[" * 400, "SC100"),
        (r"\(T\+1\)//2", "T//2", "SC102"),
        (r"T@audio", "T//0@audio", "SC100"),
        (r"\}\n", "", "SC100"),
        (r"(?s)graph.*", "", "SC108"),
        (r"(?s).*", "hello", "SC100"),
    ],
)
def test_a_malformed_file_is_the_fault_of_who_gave_it(tmp_path, old, new, code):
    path = saved(tmp_path)
    before = path.read_text()
    path.write_text(re.sub(old, new, before))
    assert path.read_text() != before
    with pytest.raises(UsageError) as error:
        text.load(path)
    assert error.value.code == code and error.value.exit_code == 2, error.value
    assert str(path) in str(error.value)


def test_a_binary_file_is_not_text(tmp_path):
    (tmp_path / "x.sir").write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="not the text of a graph"):
        text.load(tmp_path / "x.sir")

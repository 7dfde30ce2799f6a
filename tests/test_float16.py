"""float16: close to float32, finite where float16 ends, and float32 where its range or digits are needed."""

import numpy as np
import pytest
from quantized import applied, outputs, small_conformer, weight
from speechc.compiler.numerics import difference
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.text import print_module
from speechc.ir.types import Tensor, time_input

# Eleven bits a number: 68 dB for one rounding of uniform numbers, some dB less for a sum of roundings in a row.
LEAST = 60.0


@pytest.mark.parametrize("text", ["float16", "float16-weights"])
def test_it_is_close_to_float32(text):
    module = small_conformer()
    half, context = applied(module, text)
    found = difference(outputs(half), outputs(module))
    assert found.snr > LEAST and found.error > 1e-6
    assert [v.type for v in half.main.inputs] == [v.type for v in module.main.inputs]
    assert [v.type for v in half.main.outputs] == [v.type for v in module.main.outputs]
    large = [v for v in half.main.used_weights().values() if v.type.rank > 1 and np.prod(v.type.sizes) >= 512]
    assert large and all(v.type.dtype == "f16" for v in large)


def test_norms_and_softmax_stay_in_float32():
    half, _ = applied(small_conformer(), "float16")
    kinds = {op.kind: op.results[0].type.dtype for op in half.main.ops}
    assert kinds["layer_norm"] == kinds["log_softmax"] == "f32"
    assert kinds["linear"] == kinds["conv"] == kinds["silu"] == kinds["add"] == "f16"


@pytest.mark.parametrize("text", ["float16", "float16-weights", "fold"])
def test_again_changes_nothing(text):
    half, _ = applied(small_conformer(), "float16" if text == "fold" else text)
    assert print_module(applied(half, text)[0]) == print_module(half)


def test_masks_stay_finite():
    """The least float32 number as a mask is -inf in float16, and a row that masks everything would be NaN."""
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", (2, 6)))
    mask = np.zeros((2, 6), np.float32)
    mask[0], mask[1, 3:] = np.finfo(np.float32).min, np.finfo(np.float32).min
    b = Builder(g, Loc("scores"))
    g.output(b.softmax(b.add(b.relu(x), g.weight("mask", mask)), axis=1), "y")
    half, context = applied(module, "float16", samples=[])
    assert any(op.kind == "add" and op.result.type.dtype == "f16" for op in half.main.ops)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 6), dtype=np.float32)}
    (y,), (expected,) = run(half.main, feeds), run(module.main, feeds)
    assert np.isfinite(y).all() and np.all(y[1, 3:] == 0)
    assert np.allclose(y[1], expected[1], atol=1e-3)


@pytest.mark.parametrize(("number", "why"), [(1e5, "beyond"), (1e-9, "is 0 in float16")])
def test_numbers_that_float16_cannot_hold_are_reported(number, why):
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", (2, 6)))
    b = Builder(g, Loc("scale"))
    g.output(b.mul(b.relu(x), b.const(number, "f32")), "y")
    half, context = applied(module, "float16", samples=[])
    assert next(op for op in half.main.ops if op.kind == "mul").result.type.dtype == "f32"
    assert any(r.kind == "missed" and why in r.message for r in context.remarks)


def test_large_weights_are_reported():
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", (2, 32)))
    w = weight(g, "w", 32, 32).array.copy()
    w[3, 4] = 7e4
    g.output(Builder(g, Loc("big")).linear(x, g.weight("big", w)), "y")
    for text in ("float16", "float16-weights"):
        half, context = applied(module, text, samples=[])
        assert next(op for op in half.main.ops if op.kind == "linear").result.type.dtype == "f32"
        assert [r.message for r in context.remarks if "$big" in r.message and "7e+04" in r.message]


def test_positions_are_counted_in_float32():
    """float16 has no odd number beyond 2048."""
    module = Module()
    g, t = module.graph("main"), symbol("T")
    x = g.input("x", Tensor("f32", (1, time_input(t, "frames"), 1)))
    b = Builder(g, Loc("positions"))
    at = b.mul(b.cast(b.iota(size=t), dtype="f32"), b.const(0.5, "f32"))
    table = b.reshape(b.sin(at), shape=(1, t, 1))
    g.output(b.add(x, table), "y")
    half, _ = applied(module, "float16", samples=[])
    feeds = {"x": np.zeros((1, 5001, 1), np.float32)}
    (y,), (expected,) = run(half.main, feeds), run(module.main, feeds)
    assert np.abs(y - expected).max() < 1e-3  # one rounding of a number below 1


@pytest.mark.parametrize("factor", [2.0**9, 2.0**-9])
def test_values_out_of_range_on_a_sample_stay_in_float32(factor):
    """What float16 would lose, a sample shows: the op, and what reads it, stay in float32 and are named."""
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", (4, 32)))
    b, y = Builder(g), x
    for path, number in (("a", factor), ("b", factor), ("c", 1 / factor), ("d", 1 / factor)):
        b.loc = Loc(path)
        y = b.mul(b.neg(y), b.const(number, "f32"))
    g.output(y, "y")
    feeds = {"x": np.random.default_rng(0).standard_normal((4, 32), dtype=np.float32)}
    blind, _ = applied(module, "float16", samples=[])
    seen, context = applied(module, "float16", samples=[feeds])
    assert not difference(run(blind.main, feeds), run(module.main, feeds)).snr > 50
    assert difference(run(seen.main, feeds), run(module.main, feeds)).snr > LEAST
    assert {r.loc.path for r in context.remarks if "its values" in r.message} == {"b", "c"}
    assert [op.result.type.dtype for op in seen.main.ops if op.kind == "mul"] == ["f16", "f32", "f32", "f16"]

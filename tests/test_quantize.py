"""Quantization keeps the meaning: every form against float, against each other, and with one number broken."""

import numpy as np
import pytest
from quantized import applied, inputs, outputs, small_conformer
from speechc.compiler.numerics import difference
from speechc.ir.errors import NumericalError, UsageError
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.text import clone, parse_module, print_module
from speechc.ir.types import Tensor
from speechc.passes.base import Context, make

# A grid of 256 steps over eight standard deviations has a noise of 41 dB; the residual path past the quantized layers
# and the norm behind it leave the outputs some 10 dB cleaner, with 47 to 56 dB as measured.
LEAST = 44.0
BARE = 35.0  # the same without a residual path: up to four grids of 41 dB in a row

FORMS = {
    "static": ('quantize{mode="static"}',),
    "static u8": ('quantize{mode="static", outputs="conv, depthwise", activations="u8"}',),
    "symmetric": ('quantize{mode="static", symmetric=True}',),
    "min-max": ('quantize{mode="static", method="min-max"}',),
    "mse": ('quantize{mode="static", method="mse"}',),
    "integer": (
        'quantize{kinds="linear, conv, depthwise, shallow", outputs="linear, conv, depthwise, shallow", '
        'glue="mul, sigmoid"}',
        "integer",
    ),
    "dynamic tensor": ('quantize{mode="dynamic"}',),
    "dynamic row": ('quantize{mode="dynamic", kinds="linear", per="row"}',),
    "weights": ('quantize{mode="weights", store="linear, conv, depthwise"}',),
}


@pytest.fixture(scope="module")
def model() -> Module:
    return small_conformer()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_close_to_float(model, form):
    quantized, context = applied(model, *FORMS[form])
    found = difference(outputs(quantized), outputs(model))
    assert found.snr > LEAST, found
    assert found.error > 1e-5  # something was quantized
    assert any(r.kind == "applied" for r in context.remarks)
    assert print_module(parse_module(print_module(quantized), quantized.weights)) == print_module(quantized)


@pytest.mark.parametrize("form", FORMS)
def test_quantization_is_deterministic(model, form):
    first, second = (print_module(applied(model, *FORMS[form])[0]) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("form", ["static", "static u8", "integer", "dynamic tensor", "dynamic row"])
def test_a_broken_scale_shows(model, form):
    """A scale off by a tenth must push the SNR below what the test above accepts."""
    quantized, _ = applied(model, *FORMS[form])
    scale = next(w for w in quantized.weights if w.name == "p.i8.scale")
    scale._array = scale.array * np.float32(1.1)
    assert difference(outputs(quantized), outputs(model)).snr < LEAST


@pytest.mark.parametrize("attribute", ["scale", "zero_point"])
def test_a_broken_grid_shows(model, attribute):
    quantized, _ = applied(model, 'quantize{mode="static"}')
    text = print_module(quantized)
    old = next(op for op in quantized.main.ops if op.kind == "quantize" and op.loc.path == "block.feed")
    scale, zero = old.attrs["scale"], old.attrs["zero_point"]
    # What quantize writes and what dequantize reads no longer agree.
    now = {"scale": (scale * 1.2, zero), "zero_point": (scale, zero + 20)}[attribute]
    broken = parse_module(text, quantized.weights)
    op = next(op for op in broken.main.ops if op.kind == "quantize" and op.loc.path == "block.feed")
    op.attrs["scale"], op.attrs["zero_point"] = now
    assert difference(outputs(broken), outputs(model)).snr < LEAST


def test_integer_form_is_the_qdq_form(model):
    """Ops on quantized operands mean what quantize(op(dequantize)) means, bit by bit in the interpreter."""
    static, *_ = FORMS["integer"]
    qdq, _ = applied(model, static)
    whole, context = applied(qdq, "integer")
    integer = [op for op in whole.main.ops if op.attrs.get("out")]
    assert {op.kind for op in integer} == {"linear", "conv", "mul", "sigmoid"}
    assert not any(op.kind == "relu" for op in whole.main.ops)  # clipped by the grid
    assert all(v.type.quant for op in integer for v in op.operands if v is not None and not v.known)
    for a, b in zip(outputs(whole), outputs(qdq), strict=True):
        assert np.array_equal(a, b)


def test_integer_needs_quantized_weights(model):
    """An op whose weights stayed float computes in float, whatever surrounds it."""
    whole, _ = applied(
        model, 'quantize{mode="static", kinds="linear, conv", outputs="linear, conv", exclude="conv2"}', "integer"
    )
    conv = next(op for op in whole.main.ops if op.kind == "conv" and op.loc.path == "conv2")
    assert not conv.attrs.get("out") and conv.operands[0].type.dtype == "f32"


def test_weights_have_a_scale_per_channel(model):
    quantized, _ = applied(model, 'quantize{mode="dynamic", kinds="linear"}')
    op = next(op for op in quantized.main.ops if op.attrs.get("dynamic"))
    codes = op.operands[1]
    original = model.weights[codes.name.removesuffix(".i8")].array
    scale = quantized.weights[codes.type.quant.scale].array
    assert codes.type.quant.axis == 0 and scale.shape == original.shape[:1]
    assert np.all(np.abs(codes.array * scale[:, None] - original) <= scale[:, None] * 0.5001)
    assert np.abs(codes.array).max() == 127 and np.all(np.abs(codes.array).max(1) == 127)


def test_codes_are_computed_when_looked_at(model):
    quantized, _ = applied(model, 'quantize{mode="dynamic", kinds="linear"}')
    codes = [w for w in quantized.weights if w.name.endswith(".i8")]
    assert codes and all(w._array is None for w in codes)


def test_a_layer_excluded_by_its_path_stays_float(model):
    quantized, context = applied(model, 'quantize{mode="static", exclude="block.*, conv2"}')
    kinds = {op.loc.path: op for op in quantized.main.ops if op.kind in ("linear", "conv")}
    for path, op in kinds.items():
        kept = path.startswith("block.") or path in ("conv1", "conv2", "output")  # conv1: "shallow"
        assert (op.operands[0].op.kind == "dequantize") != kept, path
    missed = {r.loc.path: r.message for r in context.remarks if r.kind == "missed"}
    assert "excluded" in missed["block.feed"] and "excluded" in missed["conv2"]
    assert "last projection" in missed["output"]


def test_the_last_projection_is_quantized_when_asked(model):
    quantized, _ = applied(model, 'quantize{mode="dynamic", kinds="linear", keep="front_end", least=1}')
    assert all(op.attrs.get("dynamic") == "tensor" for op in quantized.main.ops if op.kind == "linear")


def test_few_weights_do_not_pay(model):
    _, context = applied(model, 'quantize{mode="dynamic", kinds="linear", least=2000}')
    missed = [r for r in context.remarks if r.kind == "missed"]
    assert any("fewer than 2000" in r.message and r.loc.path == "block.conv" for r in missed)


def test_static_without_samples_is_an_error(model):
    with pytest.raises(UsageError, match="samples") as error:
        applied(model, "quantize", samples=[])
    assert error.value.code == "SC024" and error.value.hints


@pytest.mark.parametrize("text", ["mode='fast'", "method='best'", "kinds='linera'", "keep='first'", "per='column'"])
def test_unknown_options_are_errors(text):
    with pytest.raises(UsageError):
        make(f"quantize{{{text}}}")


def test_nan_in_calibration_is_an_error(model):
    bad = inputs(60)
    bad["x"][0, 5, 5] = np.nan
    with pytest.raises(NumericalError, match="NaN"):
        applied(model, "quantize", samples=[bad])


def test_calibration_by_an_executor_is_calibration_by_the_interpreter(model):
    calls = []

    def executor(graph, feeds):
        calls.append(graph)
        return run(graph, feeds)

    slow, _ = applied(model, "quantize")
    fast, _ = applied(model, "quantize", executor=executor)
    assert print_module(fast) == print_module(slow)
    assert len(calls) == 2 and len(calls[0].outputs) > 3  # one run a sample returns every value at once


def test_shared_weights_are_stored_once():
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", (1, 7, 32)))
    w, b = g.weight("w", np.random.default_rng(0).standard_normal((32, 32), dtype=np.float32)), Builder(g, Loc("a"))
    y = b.linear(b.relu(b.linear(x, w)), w)
    g.output(b.relu(b.add(y, x)), "y")
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 7, 32), dtype=np.float32)}
    for form in ("static", "dynamic"):
        after = clone(module)
        make(f'quantize{{mode="{form}", keep=""}}').run(after.main, Context(samples=[feeds]))
        assert sum(w.name.endswith(".i8") for w in after.weights) == 1
        assert difference(run(after.main, feeds), run(module.main, feeds)).snr > BARE


def test_embeddings_are_stored_in_8_bits_a_row():
    module = Module()
    g = module.graph("main")
    tokens = g.input("tokens", Tensor("i64", (1, 5)))
    rng = np.random.default_rng(0)
    table = (rng.standard_normal((40, 16)) * np.exp(rng.normal(0, 1, (40, 1)))).astype(np.float32)
    g.output(Builder(g, Loc("embed")).gather(g.weight("table", table), tokens, axis=0), "y")
    after, _ = applied(module, 'quantize{mode="dynamic"}')
    feeds = {"tokens": np.array([[0, 39, 7, 7, 12]])}
    (y,) = run(after.main, feeds)
    assert "table" not in after.main.used_weights()
    assert np.all(np.abs(y - table[feeds["tokens"]]) <= np.abs(table[feeds["tokens"]]).max(-1, keepdims=True) / 253)


def test_recurrent_weights_are_stored_in_8_bits():
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", (1, 9, 16)))
    rng = np.random.default_rng(0)
    w = lambda name, *s: g.weight(name, (rng.standard_normal(s) / 4).astype(np.float32))
    h, c = (g.weight(n, np.zeros((1, 16), np.float32)) for n in "hc")
    y, _, _ = Builder(g, Loc("lstm")).lstm(x, h, c, w("w", 64, 16), w("r", 64, 16), w("b", 64))
    g.output(y, "y")
    after, _ = applied(module, 'quantize{mode="dynamic", keep=""}')
    feeds = {"x": rng.standard_normal((1, 9, 16)).astype(np.float32)}
    stored = {n: v.type.dtype for n, v in after.main.used_weights().items()}
    assert stored["w.i8"] == stored["r.i8"] == "i8" and "w" not in stored
    assert difference(run(after.main, feeds), run(module.main, feeds)).snr > 40  # weights alone, one layer


def test_products_of_activations(model):
    """Both sides of an attention product can be on grids, if asked for."""
    module = Module()
    g = module.graph("main")
    q, k = (g.input(n, Tensor("f32", s)) for n, s in (("q", (1, 2, 6, 8)), ("k", (1, 2, 8, 6))))
    b = Builder(g, Loc("scores"))
    g.output(b.softmax(b.matmul(q, k), axis=3), "y")
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(v.type.sizes).astype(np.float32) for v in g.inputs}
    text = 'quantize{kinds="matmul", outputs="matmul", keep=""}'
    after, _ = applied(module, text, "integer", samples=[feeds])
    assert [op.kind for op in after.main.ops] == ["quantize", "quantize", "matmul", "dequantize", "softmax"]
    assert difference(run(after.main, feeds), run(module.main, feeds)).snr > BARE


def test_limit_quantizes_one_layer_at_a_time(model):
    """Every op can be quantized alone, so that a faulty one can be bisected."""
    counts = []
    for limit in range(4):
        after, context = clone(model), Context(samples=[inputs(60)], limit=limit)
        make("quantize").run(after.main, context)
        counts.append(sum(r.kind == "applied" for r in context.remarks))
    assert counts == [0, 1, 2, 3]

"""The ONNX target: every op and random graphs through onnxruntime against the interpreter; files, names, states."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import op_cases
import pytest
from hypothesis import HealthCheck, given, settings
from speechc.ir import interpreter, ops, text  # noqa: F401  (ops registers the core ops)
from speechc.ir.errors import UnsupportedError, UsageError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module, Value
from speechc.ir.registry import OPS
from speechc.ir.types import DTYPES, Quant, Tensor, time_input
from speechc.lowering.target import target
from speechc.passes.base import Context, make

ONNX = target("onnx")
KINDS = sorted(op_cases._table())
quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

# Ops and forms that the target declines in every form, with reasons in legal.py.


def emitted(case, folder, precision="float32", **options):
    (path, *_) = ONNX.emit(case.module, Path(folder) / "case.onnx", precision, options)
    return ONNX.load(path, threads=1)


def agree(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, (a.dtype, a.shape, b.dtype, b.shape)
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
            continue
        assert not np.isnan(a).any()
        # Relative to the largest element, or to the unit scale of the inputs where everything cancels.
        worst = np.abs(a.astype(np.float64) - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0))
        assert worst <= tolerance, f"{worst:.2e} > {tolerance:.0e}"


def same_at_two_lengths(case, tolerance, floats="float32"):
    with tempfile.TemporaryDirectory() as folder:
        session = emitted(case, folder, floats)
        states = interpreter.initial_states(case.graph)
        for feeds in (case.feeds, case.longer(3)):
            want = interpreter.run(case.graph, feeds, states)
            got = session.run(*(feeds[v.name] for v in case.graph.inputs))
            agree(got, want, tolerance)


def tolerance_of(kind: str) -> float:
    # float32 sums in another order. A run-time scale may move a value across a rounding boundary (a step of 255), and
    # an int32 bias is rounded to half a step of the product of the scales, here up to 1.5 / 127 / 2.
    return 2e-2 if "dynamic" in kind else 1e-2 if "qdq" in kind else 1e-5


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] if i % 3 else []) for i, k in enumerate(KINDS)]
)
def test_op(kind):
    tried = []

    @quick
    @given(op_cases.op_case(kind))
    def check(case):
        if any(ONNX.illegal(op) for op in case.graph.ops):
            return
        tried.append(1)
        same_at_two_lengths(case, tolerance_of(kind))

    check()
    assert tried, f"{kind} is never legal"


def test_declined_and_unknown_kinds():
    from speechc.lowering.onnx.lower import load_all

    assert not set(OPS) - set(load_all()), "an op without a lowering"


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(op_cases.random_graph(10))
def test_random_graphs(case):
    if any(ONNX.illegal(op) for op in case.graph.ops):
        return
    same_at_two_lengths(case, 1e-5)


HALF = ["linear", "conv", "layer_norm", "attention", "gelu", "silu", "softmax", "add", "iota"]


@pytest.mark.parametrize("kind", HALF)
def test_half_precision(kind):
    """float16 graphs against the same graphs in float32: numpy's own float16 sums are no measure."""

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(op_cases.op_case(kind, floats=("f16",)))
    def check(case):
        if any(ONNX.illegal(op) for op in case.graph.ops):
            return
        wide = text.retyped(case.module, "f16", "f32").main
        with tempfile.TemporaryDirectory() as folder:
            session = emitted(case, folder, "float16")
            for feeds in (case.feeds, case.longer(3)):
                widened = {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in feeds.items()}
                want = interpreter.run(wide, widened)
                got = session.run(*(feeds[v.name] for v in case.graph.inputs))
                assert [y.dtype for y in got] == [DTYPES[v.type.dtype] for v in case.graph.outputs]
                # Eleven bits, and a few roundings of intermediate results.
                agree([y.astype(x.dtype) for y, x in zip(got, want)], want, 1e-2)

    check()


# -- files ---------------------------------------------------------------------------------------------------------
def two_layers() -> Module:
    module = Module(meta={"sample_rate": 16000, "tokens": ["a", "b"], "source_hash": "abc"})
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [1, time_input(symbol("T"), "audio"), 4]))
    b = Builder(graph, Loc("encoder.layers.0.linear", "Linear", "model.py:3"))
    w = b.weight("encoder.layers.0.linear.weight", np.eye(4, dtype=np.float32))
    y = b.linear(x, w, b.weight("encoder.layers.0.linear.bias", np.ones(4, np.float32)))
    with b.at(Loc("encoder.layers.0.norm")):
        y = b.relu(y)
    with b.at(Loc("encoder.layers.1.norm")):
        y = b.relu(y)
    graph.output(y, "y")
    return module


def emit(module, folder, **options):
    return ONNX.emit(module, Path(folder) / "m.onnx", "float32", options)


def test_names_metadata_and_manifest(tmp_path):
    path, manifest = emit(two_layers(), tmp_path)
    assert (path.name, manifest.name) == ("m.onnx", "m.onnx.json")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [n.name for n in model.graph.node] == [
        "/encoder/layers.0/linear/MatMul",
        "/encoder/layers.0/linear/Add",
        "/encoder/layers.0/norm/Relu",
        "/encoder/layers.1/norm/Relu",
    ]
    assert {i.name for i in model.graph.initializer} == {
        "encoder.layers.0.linear.weight.T",
        "encoder.layers.0.linear.bias",
    }
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, "T", 4]
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts == {"precision": "float32", "sample_rate": "16000", "tokens": "a\nb", "source_hash": "abc"}
    assert model.producer_name == "speechc" and model.producer_version
    assert ONNX.load(path).manifest.inputs[0].time["axis"] == 1


@pytest.mark.parametrize(
    "kind, opset",
    [("relu", 13), ("layer_norm", 17), ("mean", 13), ("gelu", 13), ("attention", 13)],
)
def test_lowest_opset(kind, opset, tmp_path):
    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
    @given(op_cases.op_case(kind))
    def check(case):
        (path, *_) = ONNX.emit(case.module, tmp_path / "case.onnx", "float32", {})
        assert [o.version for o in onnx.load(path).opset_import] == [opset]

    check()


def test_reductions_beyond_opset_18(tmp_path):
    """int16 needs opset 21, where the axes of a mean are an input."""
    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [2, 4]))
    b = Builder(graph, Loc("a"))
    y = b.mean(b.dequantize(b.quantize(x, scale=0.01, dtype="i16")), axes=[1])
    graph.output(y, "y")
    path, _ = emit(module, tmp_path)
    assert onnx.load(path).opset_import[0].version == 21
    feed = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    agree(ONNX.load(path).run(feed), interpreter.run(graph, {"x": feed}), 1e-6)


def test_external_data(tmp_path):
    files = emit(two_layers(), tmp_path, external_above=40)
    assert [f.name for f in files] == ["m.onnx", "m.onnx.data", "m.onnx.json"] and all(f.exists() for f in files)
    feed = np.ones((1, 3, 4), np.float32)
    np.testing.assert_array_equal(ONNX.load(files[0]).run(feed)[0], 2 * feed)


def test_repeats_bit_by_bit(tmp_path):
    first = emit(two_layers(), tmp_path)[0].read_bytes()
    assert emit(two_layers(), tmp_path)[0].read_bytes() == first


@pytest.mark.parametrize("stored", [False, True])
def test_states_go_from_call_to_call(stored, tmp_path):
    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [2]))
    initial = module.weights.add("start", np.array([3, 4], np.float32)) if stored else 1.0
    state = graph.state("total", Tensor("f32", [2]), initial)
    b = Builder(graph, Loc("sum"))
    y = b.add(b.read(state), x)
    b.write(state, y)
    graph.output(y, "y")
    path, _ = emit(module, tmp_path)
    session = ONNX.load(path)
    names = [i.name for i in onnx.load(path).graph.input]
    assert names == ["x", "state.total"]
    assert [o.name for o in onnx.load(path).graph.output] == ["y", "state.total.out"]
    begin = np.array([3, 4] if stored else [1, 1], np.float32)
    for _ in range(2):
        for calls in (1, 2, 3):
            np.testing.assert_array_equal(session.run(np.ones(2, np.float32))[0], begin + calls)
        session.reset()


def test_several_graphs(tmp_path):
    module = two_layers()
    other = module.graph("joiner")
    v = other.input("z", Tensor("f32", [2]))
    other.output(Builder(other, Loc("joiner")).tanh(v), "t")
    files = emit(module, tmp_path)
    assert [f.name for f in files] == ["m.joiner.onnx", "m.main.onnx", "m.onnx.json"]
    np.testing.assert_allclose(ONNX.load(files[0]).run(np.ones(2, np.float32))[0], np.tanh(1), rtol=1e-6)
    assert ONNX.load(files[1]).run(np.zeros((1, 2, 4), np.float32))[0].shape == (1, 2, 4)


def test_outputs_that_are_inputs_weights_or_twice_the_same(tmp_path):
    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [2]))
    b = Builder(graph, Loc("a"))
    w = b.weight("x", np.array([5, 6], np.float32))  # a weight called as an input
    y = b.add(x, w)
    for name, v in (("in", x), ("w", w), ("y", y), ("again", y)):
        graph.output(v, name)
    feed = np.array([1, 2], np.float32)
    agree(ONNX.load(emit(module, tmp_path)[0]).run(feed), interpreter.run(graph, {"x": feed}), 0)


# -- errors --------------------------------------------------------------------------------------------------------
def test_nothing_half_written(tmp_path, monkeypatch):
    emit(two_layers(), tmp_path)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    from speechc.lowering.onnx import write

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write.os, "fsync", full)
    with pytest.raises(UsageError, match="No space left") as caught:
        emit(two_layers(), tmp_path)
    assert caught.value.code == "SC060" and caught.value.hints
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_unknown_option(tmp_path):
    with pytest.raises(UsageError, match="no option colour"):
        emit(two_layers(), tmp_path, colour="red")


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        ONNX.emit(two_layers(), tmp_path / "file" / "m.onnx", "float32", {})


def test_all_illegal_ops_at_once(tmp_path):
    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [1, 8, 3]))
    b = Builder(graph, Loc("encoder.conv"))
    y = b.conv(x, b.weight("w", np.ones((2, 3, 3), np.float32)), None, channel_last=True)
    with b.at(Loc("encoder.linear")):
        q = b.weight("q", np.ones((4, 2), np.int8), quant=Quant(0.1, 3))
        y = b.linear(y, q, None, dynamic="row")
    graph.output(y, "y")
    with pytest.raises(UnsupportedError) as caught:
        emit(module, tmp_path)
    assert caught.value.exit_code == 4 and len(caught.value.where) == 2
    assert "encoder.conv" in caught.value.where[0] and "encoder.linear" in caught.value.where[1]
    assert not list(tmp_path.iterdir())


def test_session_refuses_wrong_inputs(tmp_path):
    session = ONNX.load(emit(two_layers(), tmp_path)[0])
    for wrong in (np.zeros((1, 3), np.float32), np.zeros((1, 3, 5), np.float32), np.zeros((1, 3, 4))):
        with pytest.raises(UsageError, match=r"not f32\[1, T, 4\]|model takes 4"):
            session.run(wrong)
    with pytest.raises(UsageError, match="takes 1 inputs"):
        session.run()


def test_session_of_a_broken_file(tmp_path):
    path, manifest = emit(two_layers(), tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match="does not load"):
        ONNX.load(path)
    manifest.unlink()
    with pytest.raises(UsageError, match="no manifest"):
        ONNX.load(path)


def test_int4_weights(tmp_path):
    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [2, symbol("T"), 32]))
    b = Builder(graph, Loc("a"))
    rng = np.random.default_rng(0)
    scales = module.weights.add("s", rng.uniform(0.1, 0.2, 5).astype(np.float32))
    q = b.weight("q", rng.integers(-8, 8, (5, 32)).astype(np.int8), "i4", Quant(scales.name, 0, 0))
    real = b.dequantize(q)
    graph.output(b.linear(x, real), "y")
    graph.output(b.mul(real, b.const(2.0, "f32")), "twice")
    path, _ = emit(module, tmp_path)
    feed = rng.standard_normal((2, 3, 32)).astype(np.float32)
    agree(ONNX.load(path).run(feed), interpreter.run(graph, {"x": feed}), 1e-5)
    assert {i.data_type for i in onnx.load(path).graph.initializer if i.name.startswith("q")} == {onnx.TensorProto.INT4}


def fused(tmp_path, build) -> set[str]:
    """Kinds of nodes that onnxruntime is left with for `build(b, x)`."""
    import onnxruntime

    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [1, symbol("T"), 16]))
    graph.output(build(Builder(graph, Loc("a")), x), "y")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(emit(module, tmp_path)[0]), options, providers=["CPUExecutionProvider"])
    return {n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node}


def int8_weight(b: Builder) -> Value:
    scales = b.graph.weights.add("s", np.full(16, 0.01, np.float32))
    return b.weight("q", np.ones((16, 16), np.int8), "i8", Quant(scales.name, 0, 0))


@pytest.mark.parametrize(
    "build, kinds",
    [
        (lambda b, x: b.gelu(x), {"Gelu"}),
        (lambda b, x: b.exp(b.gelu(b.exp(x), tanh=True)), {"Exp", "FastGelu"}),  # only inside of a graph
        (lambda b, x: b.silu(x), {"QuickGelu"}),
        (lambda b, x: b.rms_norm(x, b.weight("w", np.ones(16, np.float32))), {"SimplifiedLayerNormalization"}),
        (lambda b, x: b.linear(x, int8_weight(b), None, dynamic="tensor"), {"DynamicQuantizeMatMul"}),
        (
            lambda b, x: b.linear(b.dequantize(b.quantize(x, scale=0.1, dtype="u8")), b.dequantize(int8_weight(b))),
            {"QuantizeLinear", "MatMulIntegerToFloat"},
        ),
        (
            lambda b, x: b.attention(*[b.reshape(x, shape=(1, 1, symbol("T"), 16))] * 3, scale=0.25),
            {"Reshape", "FusedMatMul", "Softmax", "MatMul"},
        ),
    ],
    ids=["gelu", "gelu-tanh", "silu", "rms-norm", "dynamic", "static", "attention"],
)
def test_onnxruntime_fuses(build, kinds, tmp_path):
    """The forms that lowerings choose because onnxruntime has one kernel for them."""
    assert fused(tmp_path, build) == kinds


def test_a_table_that_is_a_projection_too_is_stored_once(tmp_path):
    """Tied embeddings: what looks tokens up also scores them."""
    module = Module()
    graph = module.graph("main")
    x = graph.input("tokens", Tensor("i64", [1, 4]))
    b = Builder(graph, Loc("decoder"))
    table = b.weight("table", np.random.default_rng(0).standard_normal((1000, 16)).astype(np.float32))
    graph.output(b.linear(b.gather(table, x, axis=0), table, None), "scores")
    path, _ = emit(module, tmp_path)
    assert path.stat().st_size < 1.1 * table.array.nbytes
    tokens = np.array([[1, 7, 999, 0]])
    (scores,) = ONNX.load(path).run(tokens)
    np.testing.assert_allclose(scores, table.array[tokens] @ table.array.T, rtol=1e-5, atol=1e-5)


def test_an_int8_table_that_is_a_projection_too_is_stored_once(tmp_path):
    module = Module()
    graph = module.graph("main")
    x = graph.input("tokens", Tensor("i64", [1, 4]))
    b = Builder(graph, Loc("decoder"))
    table = b.weight("table", np.random.default_rng(0).standard_normal((1000, 64)).astype(np.float32))
    graph.output(b.linear(b.gather(table, x, axis=0), table, None), "scores")
    wanted = interpreter.run(graph, {"tokens": np.array([[1, 7, 999, 0]])})[0]
    make('quantize{mode="dynamic", kinds="linear", per="row", keep="", store="gather"}').run(graph, Context())
    path, _ = emit(module, tmp_path)
    assert path.stat().st_size < 1.3 * table.array.size  # and scales: three numbers for every 64 codes
    (scores,) = ONNX.load(path).run(np.array([[1, 7, 999, 0]]))
    assert np.abs(scores - wanted).max() < 0.03 * np.abs(wanted).max()

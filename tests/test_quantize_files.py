"""Quantized graphs as files: what the runtimes compute is what the graph means, and they compute it in integers."""

import re
from collections import Counter

import numpy as np
import pytest
from quantized import applied, inputs, outputs, small_conformer, weight
from speechc.compiler.numerics import difference
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.text import clone, parse_module, print_module
from speechc.ir.types import Tensor
from speechc.lowering.target import target
from speechc.passes.base import Context, make

# Measured against the graph's own meaning: a kernel may round a tie the other way, one step of one grid.
SAME = 45.0
# Hybrid kernels of LiteRT find a zero point at run time where the graph's meaning is symmetric.
HYBRID = 40.0


def planned(module: Module, name: str, precision: str, calibrated: bool) -> Module:
    """The graph as the target's own plan makes it."""
    to, after = target(name), clone(module)
    context = Context(samples=[inputs(60), inputs(91)] if calibrated else [])
    for text in (*to.compress(precision, calibrated), *to.legalize):
        make(text).run(after.main, context)
        after.main.sweep()
    to.check(after.main)
    return after


def at_length(module: Module, frames: int) -> Module:
    """The same graph for one length, as a streaming step has it."""
    text = re.sub(r"T@frames", f"{frames}@frames", print_module(module))
    text = re.sub(r"\(\(T\+1\)//(\d)-1\)|\(T\+1\)//(\d)-1", lambda m: str((frames + 1) // int(m[1] or m[2]) - 1), text)
    return parse_module(re.sub(r"\bT\b", str(frames), text), module.weights)


def kernels(path) -> Counter:
    """The ops that onnxruntime really runs."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".run.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


@pytest.mark.parametrize("calibrated", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize("fixed", [True, False], ids=["one length", "any length"])
def test_onnxruntime_computes_in_integers(tmp_path, calibrated, fixed):
    """Also where shapes are fixed: there onnxruntime merges products with their bias before it looks at scales."""
    pytest.importorskip("onnxruntime")
    module = planned(small_conformer(), "onnx", "int8", calibrated)
    if fixed:
        module = at_length(module, 77)
    target("onnx").emit(module, tmp_path / "m.onnx", "int8", {})
    (y,) = target("onnx").load(tmp_path / "m.onnx").run(*inputs(77).values())
    assert difference([y], outputs(module)).snr > SAME
    ran = kernels(tmp_path / "m.onnx")
    integer = sum(ran[k] for k in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm", "QLinearMatMul"))
    float_products = ran["MatMul"] + ran["Gemm"] + ran["FusedMatMul"]
    convolutions = 2 if calibrated else 0  # without calibration conv2 is one more product, the depthwise one float
    assert integer == 5 + (not calibrated) and float_products == 1  # the last projection
    assert ran["QLinearConv"] == convolutions


def test_onnxruntime_computes_matrices_in_integers(tmp_path):
    """A product of two dimensions becomes a Gemm at every length."""
    pytest.importorskip("onnxruntime")
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", (symbol("N"), 32)))
    b = Builder(g, Loc("a"))
    y = b.relu(b.linear(x, weight(g, "a", 64, 32), weight(g, "ab", 64)))
    g.output(b.linear(b.add(y, y), weight(g, "b", 8, 64), weight(g, "bb", 8)), "y")
    feeds = {"x": np.random.default_rng(0).standard_normal((9, 32), dtype=np.float32)}
    made, _ = applied(module, *target("onnx").compress("int8", True), samples=[feeds])
    target("onnx").emit(made, tmp_path / "m.onnx", "int8", {})
    (y,) = target("onnx").load(tmp_path / "m.onnx").run(*feeds.values())
    assert difference([y], run(made.main, feeds)).snr > SAME
    ran = kernels(tmp_path / "m.onnx")
    assert ran["QGemm"] == 1 and ran["Gemm"] + ran["MatMul"] == 1  # the last projection is float


@pytest.mark.parametrize("calibrated", [True, False], ids=["static", "dynamic"])
def test_litert_computes_in_integers(tmp_path, calibrated):
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    module = planned(small_conformer(), "tflite", "int8", calibrated)
    target("tflite").emit(module, tmp_path / "m.tflite", "int8", {})
    session = target("tflite").load(tmp_path / "m.tflite")
    (y,) = session.run(*inputs(77).values())
    assert difference([y], outputs(module)).snr > (SAME if calibrated else HYBRID)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs((tmp_path / "m.tflite").read_bytes(), 0))
    graph, names = model.subgraphs[0], {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    types = Counter()
    for op in graph.operators:
        kind = names[model.operatorCodes[op.opcodeIndex].builtinCode]
        x, w = ([graph.tensors[i].type for i in op.inputs[:2]] + [None, None])[:2]
        types[kind, x == schema.TensorType.INT8, w == schema.TensorType.INT8] += 1
    assert types["FULLY_CONNECTED", calibrated, True] == 5
    assert types["FULLY_CONNECTED", False, False] == 1  # the last projection
    assert types["CONV_2D", calibrated, True] >= 1
    if calibrated:  # the gates between products and convolutions too
        assert types["LOGISTIC", True, False] >= 2


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_float16_files(tmp_path, name):
    pytest.importorskip("onnxruntime" if name == "onnx" else "ai_edge_litert")
    module, to = small_conformer(), target(name)
    half = planned(module, name, "float16", False)
    files = {}
    for precision, form in (("float32", planned(module, name, "float32", False)), ("float16", half)):
        path = tmp_path / f"{precision}{to.suffix}"
        to.emit(form, path, precision, {})
        (y,) = to.load(path).run(*inputs(77).values())
        files[precision] = path.stat().st_size
        assert difference([y], outputs(module)).snr > 60 and y.dtype == np.float32
    weights = sum(v.array.nbytes for v in module.main.used_weights().values())
    assert files["float32"] - files["float16"] > 0.4 * weights


def test_shared_plans_are_what_targets_say():
    """A calibrated and an uncalibrated plan differ, and float32 has none."""
    for name in ("onnx", "tflite"):
        to = target(name)
        assert to.compress("float32", False) == ()
        assert to.compress("int8", True) != to.compress("int8", False)
        for precision in ("float16", "int8"):
            module, _ = applied(small_conformer(), *to.compress(precision, True))
            assert print_module(module) != print_module(small_conformer())

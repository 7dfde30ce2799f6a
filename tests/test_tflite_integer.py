"""8-bit forms in TFLite files: that integer kernels run, on one XNNPACK partition, and give what the graph means."""

from __future__ import annotations

import numpy as np
import pytest
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.ops.quant import quantize_weight
from speechc.ir.types import Quant, Tensor
from speechc.lowering.tflite import target
from speechc.lowering.tflite.file import File
from speechc.lowering.tflite.run import Engine
from speechc.lowering.tflite.write import build as build_module
from speechc.passes.base import Context, make

RNG = np.random.default_rng(7)
OUT = ("i8", 0.05, 3)
IN = Quant(0.04, -5)


def normal(*shape):
    return (RNG.standard_normal(shape) * 0.3).astype(np.float32)


class Made:
    """A graph of one integer form over [1, T, channels], int8 in and out."""

    def __init__(self, channels=16, quant=IN, dtype="i8"):
        self.module = Module()
        self.graph = self.module.graph("main")
        self.b = Builder(self.graph, Loc("net.layer"))
        self.x = self.input("x", (1, symbol("T"), channels), quant, dtype)

    def input(self, name, shape, quant=IN, dtype="i8"):
        return self.graph.input(name, Tensor(dtype, shape, quant if dtype == "i8" else None))

    def weight(self, array, axis=0):
        codes, scales = quantize_weight(array, axis)
        name = self.module.weights.add("w.scale", scales).name
        return self.b.weight("w", codes, "i8", Quant(name, 0, axis))

    def bias(self, count):
        return self.b.weight("b", normal(count))


def linear(m, **more):
    return m.b.linear(m.x, m.weight(normal(24, 16)), m.bias(24), out=OUT, **more)


def conv(m, **more):
    return m.b.conv(m.x, m.weight(normal(24, 16, 3)), m.bias(24), stride=(2,), pad=((1, 1),), channel_last=True,
                    out=OUT, **more)  # fmt: skip


def depthwise(m):
    return m.b.conv(m.x, m.weight(normal(16, 1, 5)), m.bias(16), pad=((2, 2),), groups=16, channel_last=True, out=OUT)


def long_depthwise(m):
    return m.b.conv(
        m.x, m.weight(normal(16, 1, 31)), m.bias(16), pad=((15, 15),), groups=16, channel_last=True, out=OUT
    )


def conv_2d(m):
    x = m.b.reshape(m.x, shape=(1, symbol("T"), 4, 4))
    return m.b.conv(x, m.weight(normal(8, 4, 3, 3)), m.bias(8), stride=(1, 2), dilation=(1, 1), pad=((1, 1), (1, 1)),
                    channel_last=True, out=OUT)  # fmt: skip


def two(m, kind):
    return m.b.emit(kind, (m.x, m.input("y", (1, symbol("T"), 16), Quant(0.06, 9))), {"out": OUT})


def matmul(m):
    y = m.input("y", (1, symbol("T"), 16), Quant(0.02, 0))
    return m.b.matmul(m.x, m.b.transpose(y, perm=(0, 2, 1)), out=("i8", 0.3, 0))


def moves(m):
    b, t = m.b, symbol("T")
    x = b.pad(m.x, pads=((0, 0), (2, 1), (0, 0)), value=-5.0)
    x = b.concat(b.slice(x, axis=1, start=1, stop=t + 2), b.slice(x, axis=1, start=0, stop=t + 1), axis=2)
    return b.transpose(b.reshape(x, shape=(1, t + 1, 4, 8)), perm=(0, 2, 1, 3))


FORMS = {
    "linear": (linear, "FULLY_CONNECTED"),
    "linear with relu": (lambda m: linear(m, then="relu"), "FULLY_CONNECTED"),
    "conv": (conv, "CONV_2D"),
    "conv with relu": (lambda m: conv(m, then="relu"), "CONV_2D"),
    "depthwise conv": (depthwise, "DEPTHWISE_CONV_2D"),
    "conv 2-d": (conv_2d, "CONV_2D"),
    "add": (lambda m: two(m, "add"), "ADD"),
    "sub": (lambda m: two(m, "sub"), "SUB"),
    "mul": (lambda m: two(m, "mul"), "MUL"),
    "add a literal": (lambda m: m.b.add(m.x, m.b.const(0.7, "f32"), out=OUT), "ADD"),
    "matmul": (matmul, "BATCH_MATMUL"),
    "sigmoid": (lambda m: m.b.sigmoid(m.x, out=("i8", 1 / 256, -128)), "LOGISTIC"),
    "tanh": (lambda m: m.b.tanh(m.x, out=("i8", 1 / 128, 0)), "TANH"),
    "softmax": (lambda m: m.b.softmax(m.x, axis=-1, out=("i8", 1 / 256, -128)), "SOFTMAX"),
    "mean": (lambda m: m.b.mean(m.x, axes=(1,), keepdims=True, out=OUT), "MEAN"),
    "moves": (moves, "TRANSPOSE"),
}
WITHOUT_XNNPACK = {"softmax"}  # LiteRT's own kernel runs it


def build_file(m, path):
    build_module({"main": m.graph})[0].write(path, "test")


def types_of(path, name):
    """The element types that the operators called `name` read and write, from the file itself."""
    s = File().schema
    model = s.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    codes = {v: k for k, v in vars(s.BuiltinOperator).items()}
    types = {v: k for k, v in vars(s.TensorType).items()}
    graph = model.subgraphs[0]
    return [
        [types[graph.tensors[i].type] for i in (*o.inputs, *o.outputs) if i >= 0]
        for o in graph.operators
        if codes[model.operatorCodes[o.opcodeIndex].builtinCode] == name
    ]


def codes_for(v, length):
    shape = [length if not isinstance(s, int) else s for s in v.type.sizes]
    return RNG.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("name", FORMS)
def test_integer_form(name, tmp_path):
    build, operator = FORMS[name]
    m = Made()
    m.graph.output(build(m), "y")
    target.check(m.graph)
    path = tmp_path / "form.tflite"
    build_file(m, path)
    used = types_of(path, operator)
    assert used and all(t in ("INT8", "INT32") for types in used for t in types)
    engine = Engine(str(path), 1)
    for length in (9, 14):
        feeds = {v.name: codes_for(v, length) for v in m.graph.inputs}
        (found,) = engine.run(feeds).values()
        (wanted,) = run(m.graph, feeds)
        assert found.dtype == np.int8 and found.shape == wanted.shape
        # Kernels multiply by a fixed-point scale and round once; the meaning rounds in floating point.
        assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    if name not in WITHOUT_XNNPACK:
        assert engine.operators().count("DELEGATE") == 1


def test_a_long_depthwise_kernel_computes_in_float(tmp_path):
    m = Made()
    m.graph.output(long_depthwise(m), "y")
    path = tmp_path / "form.tflite"
    build_file(m, path)
    assert len(types_of(path, "DEPTHWISE_CONV_2D")) == 4
    feeds = {"x": codes_for(m.x, 40)}
    (found,) = Engine(str(path), 1).run(feeds).values()
    assert np.abs(found.astype(int) - run(m.graph, feeds)[0].astype(int)).max() <= 1


def test_float_in_and_out(tmp_path):
    m = Made(dtype="f32")
    m.graph.output(m.b.dequantize(linear(Shifted(m))), "y")
    path = tmp_path / "form.tflite"
    build_file(m, path)
    feeds = {"x": normal(1, 12, 16)}
    (found,) = Engine(str(path), 1).run(feeds).values()
    assert found.dtype == np.float32
    assert np.abs(found - run(m.graph, feeds)[0]).max() <= OUT[1] * 1.001


class Shifted:
    """The same graph, after its input is quantized."""

    def __init__(self, m):
        self.b, self.weight, self.bias = m.b, m.weight, m.bias
        self.x = m.b.quantize(m.x, scale=IN.scale, zero_point=IN.zero_point)


HYBRID = {
    "linear": (lambda m: m.b.linear(m.x, m.weight(normal(24, 16)), m.bias(24), dynamic="row"), "FULLY_CONNECTED"),
    "conv": (
        lambda m: m.b.conv(m.x, m.weight(normal(24, 16, 3)), m.bias(24), channel_last=True, dynamic="tensor"),
        "CONV_2D",
    ),
}


@pytest.mark.parametrize("name", HYBRID)
def test_run_time_scales(name, tmp_path):
    build, operator = HYBRID[name]
    m = Made(dtype="f32")
    m.graph.output(build(m), "y")
    path = tmp_path / "form.tflite"
    build_file(m, path)
    assert types_of(path, operator) == [["FLOAT32", "INT8", "FLOAT32", "FLOAT32"]]
    engine = Engine(str(path), 1)
    for length in (9, 14):
        feeds = {"x": normal(1, length, 16)}
        (found,) = engine.run(feeds).values()
        (wanted,) = run(m.graph, feeds)
        # The same codes and the same sums: only a rounding of the scale can differ.
        assert np.abs(found - wanted).max() <= 1e-5
    assert engine.operators().count("DELEGATE") == 1


def test_weights_alone_in_8_bits(tmp_path):
    m = Made(dtype="f32")
    m.graph.output(m.b.linear(m.x, m.b.dequantize(m.weight(normal(24, 16))), m.bias(24)), "y")
    path = tmp_path / "form.tflite"
    build_file(m, path)
    assert types_of(path, "DEQUANTIZE") == [["INT8", "FLOAT32"]]
    feeds = {"x": normal(1, 12, 16)}
    (found,) = Engine(str(path), 1).run(feeds).values()
    assert np.abs(found - run(m.graph, feeds)[0]).max() <= 1e-5


def test_int8_inputs_and_outputs_need_no_conversion(tmp_path):
    m = Made(dtype="f32")
    m.graph.output(m.b.dequantize(linear(Shifted(m))), "y")
    make("integer-ports").run(m.graph, Context())
    path, _ = target.emit(m.module, tmp_path / "m.tflite", "int8", {})
    assert types_of(path, "FULLY_CONNECTED") == [["INT8", "INT8", "INT32", "INT8"]]
    assert not types_of(path, "QUANTIZE") and not types_of(path, "DEQUANTIZE")
    session = target.load(path)
    x, y = session.manifest.inputs[0], session.manifest.outputs[0]
    assert (x.dtype, x.quant) == ("i8", [IN.scale, IN.zero_point]) and (y.dtype, y.quant) == ("i8", [0.05, 3])
    codes = np.random.default_rng(1).integers(-128, 128, (1, 12, 16)).astype(np.int8)
    (found,), (wanted,) = session.run(codes), run(m.graph, {"x": codes})
    assert found.dtype == np.int8 and np.abs(found.astype(int) - wanted).max() <= 1
    session.close()


def test_refused_scale():
    m = Made()
    m.graph.output(m.b.tanh(m.x, out=("i8", 0.01, 0)), "y")
    assert "scale" in target.illegal(m.graph.outputs[0].op)

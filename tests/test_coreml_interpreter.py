"""The MIL interpreter: what it reads and refuses, what it checks op by op, how it rounds, states and control flow."""

from __future__ import annotations

import numpy as np
import pytest
from coreml_proto import Writer, typed
from speechc.ir.errors import NumericalError, UnsupportedError, UsageError
from speechc.lowering.coreml.interpreter import Program, supported

RNG = np.random.default_rng(5)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def near(got, want):
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def package(tmp_path, build, opset=18):
    """A package of one input x: fp32[2, 3] and what `build(writer, x)` makes of it."""
    w = Writer(opset)
    build(w, w.input("x", "fp32", (2, 3)))
    return w.save(tmp_path)


def refused(code, path, feeds=None):
    with pytest.raises((UnsupportedError, UsageError, NumericalError)) as error:
        Program.load(path).run(feeds or {"x": normal(2, 3)})
    assert error.value.code == code
    return str(error.value)


# Reading


def test_weights_come_from_the_blob_file_and_small_ones_are_unpacked(tmp_path):
    w = Writer()
    x = w.input("x", "fp32", (2, 3))
    weight = normal(4, 3)
    nibbles = np.array([[1, -8, 7], [-1, 0, 3]], np.int8)
    packed = bytes([0x81, 0xF7, 0x30])  # two to a byte, the first in the low half
    y = w.op("linear", {"y": ("fp32", (2, 4))}, x=x, weight=w.weight(weight))
    four = w.op(
        "constexpr_blockwise_shift_scale", {"q": ("fp32", (2, 3))}, data=w.weight(nibbles, "int4", packed),
        scale=np.array([[0.5], [2.0]], np.float32),
    )  # fmt: skip
    z = w.op("mul", {"z": ("fp32", (2, 3))}, x=x, y=four)
    w.output(y, "fp32")
    w.output(z, "fp32")
    program = Program.load(w.save(tmp_path))
    a = normal(2, 3)
    got = program.run({"x": a})
    near(got["y"], a @ weight.T)
    near(got["z"], a * nibbles * [[0.5], [2.0]])
    assert program.inputs == {"x": (np.float32, (2, 3))} and program.outputs["y"] == (np.float32, (2, 4))


@pytest.mark.parametrize("damage", ["sentinel", "type", "cut"])
def test_damaged_weights(tmp_path, damage):
    w = Writer()
    x = w.input("x", "fp32", (2, 3))
    name = w.weight(normal(4, 3), sentinel=1 if damage == "sentinel" else 0xDEADBEEF)
    w.output(w.op("linear", {"y": ("fp32", (2, 4))}, x=x, weight=name), "fp32")
    if damage == "type":
        w.blobs = w.blobs[:68] + b"\4" + w.blobs[69:]
    if damage == "cut":
        w.blobs = w.blobs[:140]
    assert "weight" in refused("SC331", w.save(tmp_path))


def test_no_package_and_a_damaged_model(tmp_path):
    refused("SC010", tmp_path / "none.mlpackage")
    path = package(tmp_path, lambda w, x: w.output(w.op("relu", {"y": ("fp32", (2, 3))}, x=x), "fp32"))
    (path / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(b"\xff\xff\xff")
    refused("SC331", path)
    (path / "Manifest.json").write_text("{}")
    refused("SC331", path)


# What an op set has, and what the format allows


def test_unknown_and_too_new_ops_are_named_together(tmp_path):
    def build(w, x):
        w.op("frobnicate", {"a": ("fp32", (2, 3))}, x=x)
        w.op("quantize", {"b": ("int8", (2, 3))}, input=x, scale=0.5, output_dtype=("int8",))
        w.op("gather", {"c": ("fp32", (1, 3))}, x=x, indices=np.array([0]), batch_dims=0)
        w.op("relu", {"d": ("fp32", (2, 3))}, x=x, slope=0.1)
        w.output(w.op("relu", {"y": ("fp32", (2, 3))}, x=x), "fp32")

    message = refused("SC330", package(tmp_path, build, opset=15))
    assert "frobnicate" in message and "iOS 17" in message and "batch_dims" in message and "slope" in message


def test_op_sets_and_specifications_fit(tmp_path):
    path = package(tmp_path, lambda w, x: w.output(w.op("relu", {"y": ("fp32", (2, 3))}, x=x), "fp32"))
    model = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = Writer().messages.Model.FromString(model.read_bytes())
    spec.specificationVersion = 8
    model.write_bytes(spec.SerializeToString())
    assert "specification 9" in refused("SC331", path)
    spec.mlProgram.functions["main"].opset = "CoreML4"
    model.write_bytes(spec.SerializeToString())
    assert "CoreML5" in refused("SC331", path)


def test_a_missing_parameter(tmp_path):
    build = lambda w, x: w.output(w.op("transpose", {"y": ("fp32", (3, 2))}, x=x), "fp32")
    assert "perm" in refused("SC331", package(tmp_path, build))


def _bool_output(w, x):
    w.output(w.op("greater", {"y": ("bool", (2, 3))}, x=x, y=0.0), "bool")


def _wide_output(w, x):
    w.output(w.op("reshape", {"y": ("fp32", (1, 1, 1, 1, 2, 3))}, x=x, shape=np.array([1, 1, 1, 1, 2, 3])), "fp32")


def _half_input(w, x):
    w.output(w.op("relu", {"y": ("fp16", (2,))}, x=w.input("h", "fp16", (2,))), "fp16")


def _double_input(w, x):
    w.output(w.op("relu", {"y": ("fp32", (2,))}, x=w.input("h", "fp32", (2,), declared="fp64")), "fp32")


def _other_size(w, x):
    w.input("h", "fp32", (None, 2), ranges=[(1, 4), (3, 3)])
    w.output(w.op("relu", {"y": ("fp32", (2, 3))}, x=x), "fp32")


def _float_state(w, x):
    w.state("s", "fp32", (2,))
    w.output(w.op("relu", {"y": ("fp32", (2, 3))}, x=x), "fp32")


def _early_state(w, x):
    w.state("s", "fp16", (2,))
    w.output(w.op("relu", {"y": ("fp32", (2, 3))}, x=x), "fp32")


def _small_early(w, x):
    w.op("cast", {"q": ("int8", (2, 3))}, x=x, dtype=("int8",))
    w.output(w.op("relu", {"y": ("fp32", (2, 3))}, x=x), "fp32")


def _output_of_another_type(w, x):
    w.output(w.op("relu", {"y": ("fp32", (2, 3))}, x=x), "fp16")


@pytest.mark.parametrize(
    "build, opset",
    [
        (_bool_output, 18), (_wide_output, 18), (_half_input, 15), (_double_input, 18), (_other_size, 18),
        (_float_state, 18), (_early_state, 17), (_small_early, 16), (_output_of_another_type, 18),
    ],
)  # fmt: skip
def test_what_the_format_does_not_allow(tmp_path, build, opset):
    refused("SC331", package(tmp_path, build, opset))


# Types and shapes, op by op


@pytest.mark.parametrize("declared", [("fp32", (2, 4)), ("fp32", (2, 3, 1)), ("fp16", (2, 3)), ("int32", (2, 3))])
def test_a_result_is_what_the_package_declares(tmp_path, declared):
    def build(w, x):
        w.op("exp", {"wrong": declared}, x=x)
        w.output(w.op("relu", {"y": ("fp32", (2, 3))}, x=x), "fp32")

    assert "exp" in refused("SC514", package(tmp_path, build))


@pytest.mark.parametrize("dtype", ["int32", "fp16"])
def test_operands_are_of_one_type(tmp_path, dtype):
    def build(w, x):
        other = w.op("cast", {"i": (dtype, (2, 3))}, x=x, dtype=(dtype,))
        w.output(w.op("add", {"y": ("fp32", (2, 3))}, x=x, y=other), "fp32")

    assert "add" in refused("SC514", package(tmp_path, build))


def test_operands_that_do_not_fit_name_the_op(tmp_path):
    build = lambda w, x: w.output(w.op("matmul", {"y": ("fp32", (2, 2))}, x=x, y=normal(4, 2)), "fp32")
    assert "matmul" in refused("SC514", package(tmp_path, build))


def test_float16_rounds_every_result_and_computes_in_float32(tmp_path):
    w = Writer()
    x = w.input("x", "fp16", (1, 4096))
    ones = np.ones((4096, 1), np.float16)
    big = w.op("add", {"a": ("fp16", (1, 4096))}, x=x, y=np.float16(2048))
    back = w.op("sub", {"b": ("fp16", (1, 4096))}, x=big, y=np.float16(2048))
    w.output(back, "fp16")
    w.output(w.op("matmul", {"m": ("fp16", (1, 1))}, x=x, y=ones), "fp16")
    w.output(w.op("mul", {"o": ("fp16", (1, 4096))}, x=big, y=np.float16(100)), "fp16")
    wide = np.float16(np.arange(4096) % 2 * 600 - 300)
    moved = w.op("add", {"n": ("fp16", (1, 4096))}, x=back, y=wide)
    w.output(w.op("layer_norm", {"l": ("fp16", (1, 4096))}, x=moved, axes=np.array([1])), "fp16")
    got = Program.load(w.save(tmp_path)).run({"x": np.full((1, 4096), 0.75, np.float16)})
    assert (got["b"] == 0).all() and got["b"].dtype == np.float16  # 2048.75 is 2048 in float16
    assert got["m"] == 3072  # in float16 the sum would stop growing at 2048
    assert np.isinf(got["o"]).all()
    near(got["l"], np.sign(wide)[None])  # squares of 300 are beyond float16, inside the op they may be


# Inputs


def test_flexible_inputs(tmp_path):
    w = Writer()
    x = w.input("x", "fp32", (1, None), ranges=[(1, 1), (4, 9)])
    e = w.input("e", "fp32", (None, 2), choices=[(3, 2), (6, 2)])
    f = w.input("f", "int32", (None,), ranges=[(1, -1)])
    w.output(w.op("relu", {"y": ("fp32", (1, None))}, x=x), "fp32")
    w.output(w.op("relu", {"z": ("fp32", (None, 2))}, x=e), "fp32")
    w.output(w.op("abs", {"i": ("int32", (None,))}, x=f), "int32")
    program = Program.load(w.save(tmp_path))
    assert program.inputs["x"] == (np.float32, (1, None)) and program.inputs["e"] == (np.float32, (None, 2))
    good = {"x": normal(1, 9), "e": normal(6, 2), "f": np.arange(5000, dtype=np.int32)}
    assert program.run(good)["i"].shape == (5000,)
    wrong = [
        ("SC112", {"x": normal(1, 10)}), ("SC112", {"x": normal(1, 3)}), ("SC112", {"e": normal(4, 2)}),
        ("SC111", {"x": normal(9)}), ("SC111", {"x": good["x"].astype(np.float16)}), ("SC110", {"q": normal(1)}),
    ]  # fmt: skip
    for code, change in wrong:
        with pytest.raises(UsageError) as error:
            program.run({**good, **change})
        assert error.value.code == code
    with pytest.raises(UsageError, match="missing"):
        program.run({"x": good["x"]})


# States and control flow


def test_states_change_in_place_and_start_at_zero(tmp_path):
    w = Writer()
    x, s = w.input("x", "fp16", (2,)), w.state("s", "fp16", (2,))
    before = w.op("read_state", {"before": ("fp16", (2,))}, input=s)
    total = w.op("add", {"total": ("fp16", (2,))}, x=before, y=x)
    w.op("write_state", {}, input=s, data=total)
    after = w.op("read_state", {"after": ("fp16", (2,))}, input=s)
    w.output(w.op("sub", {"y": ("fp16", (2,))}, x=after, y=before), "fp16")
    w.output("after", "fp16")
    program = Program.load(w.save(tmp_path))
    x = np.array([1, 2], np.float16)
    states = program.make_state()
    held = states["s"]
    for k in range(1, 4):
        got = program.run({"x": x}, states)
        assert (got["after"] == k * x).all() and (got["y"] == x).all() and (held == k * x).all()
    assert (program.run({"x": x})["after"] == x).all()  # without states: from zero, each time
    assert (held == 3 * x).all()
    with pytest.raises(UsageError, match="SC111"):
        program.run({"x": x}, {"s": np.zeros(2, np.float32)})
    with pytest.raises(UsageError, match="SC110"):
        program.run({"x": x}, {})


def test_loops_and_branches(tmp_path):
    """x doubled until its sum exceeds 100, counted; then a branch on the count that reads an outer value."""
    w = Writer()
    x = w.input("x", "fp32", (2, 3))
    zero = w.constant(0)
    w.op("while_loop", {"n": ("int32", ()), "v": ("fp32", (2, 3))}, loop_vars=[zero, x])
    loop = w.last
    for _ in range(2):
        block = loop.blocks.add()
        for name, dtype, shape in (("i", "int32", ()), ("u", "fp32", (2, 3))):
            typed(block.inputs.add(name=name).type, dtype, shape)
    condition, body = loop.blocks
    w.op("reduce_sum", {"s": ("fp32", ())}, condition, x="u")
    w.op("less_equal", {"more": ("bool", ())}, condition, x="s", y=100.0)
    condition.outputs.append("more")
    w.op("add", {"i2": ("int32", ())}, body, x="i", y=1)
    w.op("add", {"u2": ("fp32", (2, 3))}, body, x="u", y="u")
    body.outputs.extend(["i2", "u2"])
    w.op("greater", {"many": ("bool", ())}, x="n", y=3)
    w.op("cond", {"y": ("fp32", (2, 3))}, pred="many")
    for block, other in zip((w.last.blocks.add(), w.last.blocks.add()), (1.0, -1.0)):
        name = f"r{len(block.operations)}{other}"
        w.op("mul", {name: ("fp32", (2, 3))}, block, x="v", y=other)
        block.outputs.append(name)
    w.output("y", "fp32")
    w.output(w.op("expand_dims", {"count": ("int32", (1,))}, x="n", axes=np.array([0])), "int32")
    program = Program.load(w.save(tmp_path))
    for start, count in ((1.0, 5), (10.0, 1)):
        x = np.full((2, 3), start, np.float32)
        got = program.run({"x": x})
        assert got["count"] == count
        near(got["y"], x * 2**count * (1 if count > 3 else -1))


def test_the_table_covers_what_speech_models_need():
    assert len(supported()) > 150
    assert "scaled_dot_product_attention" not in supported(17) and "constexpr_cast" not in supported(15)

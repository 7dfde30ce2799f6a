"""Every op for TensorRT: refused by the table, or an engine is built and its ONNX gives what the interpreter gives."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import engines
import numpy as np
import op_cases
import pytest
from hypothesis import HealthCheck, given, settings
from speechc.ir import interpreter, ops, text  # noqa: F401  (ops registers the core ops)
from speechc.ir.errors import UnsupportedError
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.registry import OPS
from speechc.ir.types import Tensor
from speechc.lowering.tensorrt import target

# Activations quantized at run time, and a GRU whose weights are codes: TensorRT has no form of these.
REFUSED = {"linear.dynamic.tensor", "linear.dynamic.row", "conv.dynamic.tensor", "gru.int8"}
# Where this target does not emit what ONNX's does.
OWN = ("softmax", "argmax", "max_pool", "conv_transpose")
# Sums in another order; a quantized product may differ by a rounding of its result.
TOLERANCE = 1e-5
# tensorrt_rtx 1.7.1 says this of cummax → elu → elu over an unknown length; without the first or the second it builds.
BUILDERS_FAULT = "Expected 1"


def check(kind: str, examples: int, floats=("f32",), tolerance=TOLERANCE):
    tried = []

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(op_cases.op_case(kind, floats=floats))
    def body(case):
        if any(target.illegal(op) for op in case.graph.ops):
            return
        tried.append(1)
        engines.within(case)
        with tempfile.TemporaryDirectory() as folder:
            session, _ = engines.emitted(case.module, Path(folder))
            states = interpreter.initial_states(case.graph)
            for feeds in (case.feeds, case.longer()):
                wanted = interpreter.run(case.graph, feeds, states)
                for a, b in zip(session.run(*(feeds[v.name] for v in case.graph.inputs)), wanted, strict=True):
                    assert engines.error(a, b) <= tolerance

    body()
    return bool(tried)


@pytest.mark.parametrize("kind", OWN)
def test_own_forms(kind):
    assert check(kind, 4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(op_cases._table()))
def test_op(kind):
    assert check(kind, 15) != (kind in REFUSED)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(op_cases._table()))
def test_op_in_half_precision(kind):
    # Eleven bits a number, and onnxruntime computes some of it in float32: sums of a few dozen.
    check(kind, 6, floats=("f16",), tolerance=2e-2)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(case=op_cases.random_graph(10))
def test_random_graphs(case):
    if any(target.illegal(op) for op in case.graph.ops):
        return
    engines.within(case)
    case.graph.sweep()  # as every plan does: a product that nobody reads is no layer of the network
    with tempfile.TemporaryDirectory() as folder:
        try:
            session, _ = engines.emitted(case.module, Path(folder))
        except UnsupportedError as error:
            if error.code == "SC321" and BUILDERS_FAULT in error.message:
                return
            raise
        for feeds in (case.feeds, case.longer()):
            wanted = interpreter.run(case.graph, feeds)
            for a, b in zip(session.run(*(feeds[v.name] for v in case.graph.inputs)), wanted, strict=True):
                assert engines.error(a, b) <= 1e-4  # errors of a chain add up


def test_every_op_has_a_lowering():
    assert not set(OPS) - target.kinds


def graph_of(build, *types: Tensor) -> Module:
    module = Module()
    graph = module.graph("main")
    b = Builder(graph, Loc("encoder.layers.3.act", "Net", "net.py:7"))
    graph.output(build(b, *(graph.input(f"x{i}", t) for i, t in enumerate(types))), "y")
    return module


def dilated(b, x, w):
    return b.conv_transpose(x, w, None, dilation=(2,))


WRONG = {
    "no f64": lambda: graph_of(lambda b, x: b.tanh(x), Tensor("f64", [2, 3])),
    "zero point is 3": lambda: graph_of(lambda b, x: b.quantize(x, scale=0.1, zero_point=3), Tensor("f32", [2, 3])),
    "no u8": lambda: graph_of(lambda b, x: b.quantize(x, scale=0.1, dtype="u8"), Tensor("f32", [2, 3])),
    "codes of a quantized tensor only": lambda: graph_of(lambda b, x: b.cast(x, dtype="f32"), Tensor("i8", [2, 3])),
    "dimension of size 0": lambda: graph_of(lambda b, x: b.tanh(x), Tensor("f32", [0, 3])),
    "known at compile time": lambda: graph_of(dilated, Tensor("f32", [1, 2, 5]), Tensor("f32", [2, 2, 3])),
}


@pytest.mark.parametrize("why", sorted(WRONG))
def test_what_is_refused_names_the_module(why):
    with pytest.raises(UnsupportedError, match=why) as error:
        target.emit(WRONG[why](), Path("never.engine"), "float32", {})
    assert error.value.code == "SC300" and error.value.exit_code == 4
    assert "encoder.layers.3.act" in error.value.where[0]


def test_the_table_imports_no_sdk():
    code = (
        "import sys\nfrom speechc.ir.registry import OPS, definition\nfrom speechc.lowering.tensorrt import target\n"
        "from speechc.ir.graph import *\nfrom speechc.ir.types import Tensor\ndefinition('add')\n"
        "g = Module().graph('main'); target.check(g); target.kinds\n"
        "b = Builder(g, Loc('a')); g.output(b.tanh(g.input('x', Tensor('f32', [2]))), 'y'); target.check(g)\n"
        "print(*sorted({'tensorrt', 'tensorrt_rtx', 'onnx', 'onnx_graphsurgeon', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


def test_a_kernel_with_its_zeros():
    """A dilated transposed convolution, exactly: the dense kernel holds the taps, the file no dilation."""
    rng = np.random.default_rng(0)
    module = Module()
    graph = module.graph("main")
    b = Builder(graph, Loc("net.up"))
    x = graph.input("x", Tensor("f32", [1, 2, 5]))
    graph.output(b.conv_transpose(x, b.weight("w", rng.integers(-3, 4, (2, 3, 4)).astype(np.float32)), None,
                                  stride=(2,), dilation=(3,), pad=((1, 2),)), "y")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        session, _ = engines.emitted(module, Path(folder))
        array = rng.integers(-3, 4, (1, 2, 5)).astype(np.float32)
        np.testing.assert_array_equal(session.run(array)[0], interpreter.run(graph, {"x": array})[0])

"""Every op and random graphs: one Core ML package, run at two lengths, gives what the interpreter of the IR gives."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from op_cases import op_case, random_graph
from speechc.ir.errors import UnsupportedError
from speechc.ir.interpreter import run
from speechc.ir.registry import OPS, definition
from speechc.lowering.coreml import target
from speechc.lowering.coreml.choices import Choices
from speechc.lowering.coreml.write import write_graph
from speechc.lowering.manifest import manifest_path

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
# float32: other orders of summation, and exp, log and tanh of a few units in the last place. float16: the graph rounds
# between the steps of a norm or softmax, MIL's one operation at its end: a few roundings of 2^-11.
TOLERANCE = {"f32": 1e-5, "f16": 8e-3}

definition("add")
KINDS = sorted(OPS)


def run_package(graph, feeds_list, choices=None):
    """The outputs of the emitted package for each of several feeds, states at their initial values."""
    target.check(graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.mlpackage"
        write_graph(graph, path, "float32", {}, choices or Choices()).save(manifest_path(path))
        session, out = target.load(path), []
        for feeds in feeds_list:
            session.reset()
            out.append(session.run_named(feeds))
        return out


def close(found, wanted, tolerance):
    assert found.shape == wanted.shape and found.dtype == wanted.dtype, (found.dtype, found.shape, wanted.shape)
    if wanted.dtype.kind in "ib":
        np.testing.assert_array_equal(found, wanted)
        return
    far = np.where(found == wanted, 0, found.astype(np.float64) - wanted)  # infinities are equal or not
    error = np.abs(far).max(initial=0) / max(np.abs(wanted[np.isfinite(wanted)]).max(initial=0), 1e-3)
    assert error <= tolerance, f"largest difference {error:.2e} of the largest value\n{found}\n{wanted}"


def check(case, tolerance, choices=None):
    feeds = [case.feeds, case.longer()]
    wanted = [run(case.graph, f) for f in feeds]
    for out, want in zip(run_package(case.graph, feeds, choices), wanted):
        for name, w in zip(case.graph.output_names, want):
            close(out[name], w, tolerance)


def legal(case) -> bool:
    """Whether the target takes a case; what it refuses are codes of 16 bits."""
    try:
        target.check(case.graph)
    except UnsupportedError as refusal:
        assert all("i16 with a scale" in why for why in refusal.where), refusal
        return False
    return True


def prove(kind, float_type, examples, choices=None):
    @given(case=op_case(kind, (float_type,)))
    @settings(max_examples=examples, deadline=None, suppress_health_check=SLOW, derandomize=True)
    def body(case):
        if legal(case):
            check(case, TOLERANCE[float_type], choices)

    body()


@pytest.mark.parametrize("kind", KINDS)
def test_op_equals_its_meaning(kind):
    prove(kind, "f32", 2)


@pytest.mark.slow
@pytest.mark.parametrize("float_type", ["f32", "f16"])
@pytest.mark.parametrize("kind", KINDS)
def test_op_equals_its_meaning_in_many_forms(kind, float_type):
    prove(kind, float_type, 15)


# What needs a later release says so (quantize; recurrent layers in float16); everything else is in the first.
LATER = {"f32": {"quantize", "dequantize"}, "f16": {"quantize", "dequantize", "lstm", "rnn"}}


@pytest.mark.slow
@pytest.mark.parametrize("float_type", ["f32", "f16"])
@pytest.mark.parametrize("release", [15, 16, 18])
@pytest.mark.parametrize("kind", KINDS)
def test_op_in_older_and_newer_op_sets(kind, release, float_type):
    """The interpreter holds a package to the op set that it names, parameters and element types included."""
    if release < 17 and kind in LATER[float_type]:
        with pytest.raises(UnsupportedError, match="is there from iOS17 on"):
            prove(kind, float_type, 8, Choices(release=release))
    else:
        prove(kind, float_type, 4, Choices(release=release))


@pytest.mark.parametrize("form", ["linear.qdq", "conv.qdq"])
def test_quantized_form_equals_its_meaning(form):
    prove(form, "f32", 6)


@pytest.mark.parametrize("release", [16, 18])
def test_weights_of_8_bits_in_both_forms(release):
    """Codes with scales a channel: affine up to iOS 17, blockwise from iOS 18 on."""
    from op_cases import per_channel
    from speechc.ir.graph import Builder, Loc, Module
    from speechc.ir.types import Tensor

    class Drawn:
        module, rng = Module(), np.random.default_rng(0)

    graph = Drawn.module.graph("main")
    Drawn.b = b = Builder(graph, Loc("layer"))
    x = graph.input("x", Tensor("f32", (2, 5)))
    graph.output(b.linear(x, b.dequantize(per_channel(Drawn, (7, 5), 0))), "y")
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 5), dtype=np.float32)}
    (out,) = run_package(graph, [feeds], Choices(release=release))
    close(out["y"], run(graph, feeds)[0], TOLERANCE["f32"])


@pytest.mark.slow
@pytest.mark.parametrize("float_type,tolerance", [("f32", 1e-4), ("f16", 3e-2)])  # errors of a chain add up
def test_random_graphs(float_type, tolerance):
    @given(case=random_graph(12, float_type))
    @settings(max_examples=50, deadline=None, suppress_health_check=SLOW, derandomize=True)
    def body(case):
        check(case, tolerance)

    body()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("frames", [7, 45, None])
@pytest.mark.parametrize("reverse", [False, True])
def test_recurrent_layers_frame_by_frame(kind, frames, reverse):
    """A GRU, and an LSTM with a projection, over few frames (written out), many, and a length that varies (a loop)."""
    from speechc.ir.expr import evaluate, symbol
    from speechc.ir.graph import Builder, Loc, Module
    from speechc.ir.types import Tensor

    rng, graph = np.random.default_rng(3), Module().graph("main")
    array = lambda *shape: rng.standard_normal(shape).astype(np.float32) / 2
    b = Builder(graph, Loc("layer"))
    x = graph.input("x", Tensor("f32", (2, symbol("T") if frames is None else frames, 3)))
    if kind == "gru":
        h = graph.input("h", Tensor("f32", (2, 4)))
        weights = [b.weight(n, array(*s)) for n, s in (("w", (12, 3)), ("r", (12, 4)), ("b", (12,)), ("rb", (12,)))]
        results = b.gru(x, h, *weights, reverse=reverse)
    else:
        h, c = graph.input("h", Tensor("f32", (2, 2))), graph.input("c", Tensor("f32", (2, 4)))
        weights = [b.weight(n, array(*s)) for n, s in (("w", (16, 3)), ("r", (16, 2)), ("b", (16,)), ("p", (2, 4)))]
        results = b.lstm(x, h, c, *weights, reverse=reverse)
    for i, r in enumerate(results):
        graph.output(r, f"y{i}")
    sizes = [{"T": 9}, {"T": 50}] if frames is None else [{}]
    feeds = [{v.name: array(*(evaluate(s, at) for s in v.type.sizes)) for v in graph.inputs} for at in sizes]
    for out, feed in zip(run_package(graph, feeds), feeds):
        for name, w in zip(graph.output_names, run(graph, feed)):
            close(out[name], w, TOLERANCE["f32"])

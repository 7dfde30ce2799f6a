"""What stays in floating point: features by a rule on the graph, the last projection, and both only if asked."""

import numpy as np
from quantized import weight
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.types import Tensor, time_input
from speechc.passes.base import Context, make
from speechc.passes.quantize_select import front_end, last_projections


def from_audio(activation: str = "relu") -> Module:
    """audio [1, T] -> frames, DFT, power, mel, log, then two trained layers around an activation."""
    module = Module()
    g = module.graph("main")
    x = g.input("audio", Tensor("f32", (1, time_input(symbol("T"), "audio"))))
    b = Builder(g, Loc("features.dft"))
    y = b.linear(b.frame(x, size=64, hop=32), weight(g, "dft", 66, 64))
    re, im = b.slice(y, axis=2, start=0, stop=33), b.slice(y, axis=2, start=33, stop=66)
    y = b.add(b.mul(re, re), b.mul(im, im))
    b.loc = Loc("features.mel")
    y = b.log(b.add(b.linear(y, g.weight("mel", np.abs(weight(g, "m", 20, 33).array))), g.const(1e-6, "f32")))
    b.loc = Loc("encoder")
    y = b.emit(activation, (b.linear(y, weight(g, "a", 48, 20)),))
    y = b.add(b.linear(y, weight(g, "b", 48, 48)), y)
    b.loc = Loc("head")
    g.output(b.log_softmax(b.linear(y, weight(g, "c", 12, 48)), axis=2), "y")
    return module


def paths(ops) -> set[str]:
    return {op.loc.path for op in ops if op.kind == "linear"}


def test_the_front_end_ends_at_the_logarithm():
    assert paths(front_end(from_audio().main)) == {"features.dft", "features.mel"}


def test_a_logarithm_behind_an_activation_is_no_front_end():
    module = from_audio()
    g = module.main
    y = Builder(g, Loc("late")).log(g.outputs[0])
    g.outputs[0] = y
    assert paths(front_end(g)) == {"features.dft", "features.mel"}


def test_features_as_input_have_no_front_end():
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("a"))
    y = b.relu(b.linear(g.input("x", Tensor("f32", (1, 5, 20))), weight(g, "a", 48, 20)))
    g.output(b.log(b.softmax(y, axis=2)), "y")
    assert front_end(g) == set()


def test_the_last_projection_is_found_behind_softmax_and_norm():
    g = from_audio().main
    assert paths(last_projections(g)) == {"head"}
    b = Builder(g, Loc("more"))
    g.outputs[0] = b.mul(b.reshape(g.outputs[0], shape=g.outputs[0].type.sizes[1:]), b.const(2.0, "f32"))
    assert paths(last_projections(g)) == {"head"}


def test_a_residual_sum_at_the_end_has_no_last_projection():
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", (1, 5, 32)))
    b = Builder(g, Loc("a"))
    g.output(b.layer_norm(b.add(x, b.linear(x, weight(g, "a", 32, 32)))), "y")
    assert last_projections(g) == set()


def test_only_trained_layers_inside_are_quantized():
    after = from_audio()
    context = Context()
    make('quantize{mode="dynamic"}').run(after.main, context)
    assert paths(op for op in after.main.ops if op.attrs.get("dynamic")) == {"encoder"}
    missed = {r.loc.path: r.message for r in context.remarks if r.kind == "missed"}
    assert "features" in missed["features.mel"] and "last projection" in missed["head"]


def test_everything_is_quantized_when_asked():
    after = from_audio()
    make('quantize{mode="dynamic", keep=""}').run(after.main, Context())
    assert all(op.attrs.get("dynamic") for op in after.main.ops if op.kind == "linear")

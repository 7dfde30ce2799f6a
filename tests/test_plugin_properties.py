"""The properties that every op, pass, rule and target is held to, for those of the example plugin; in this process.

What the plugin registers is forgotten after this file.
"""

import random
import sys

import numpy as np
import op_cases
import pass_cases
import pytest
import stream_cases
import stream_proof
from hypothesis import HealthCheck, Phase, given, settings
from speechc.compiler.numerics import difference
from speechc.ir import plugins, registry
from speechc.ir.interpreter import initial_states, run
from speechc.ir.text import clone, parse_module
from speechc.ir.verifier import verify
from speechc.lowering import target as targets
from speechc.lowering.coreml import lower as coreml
from speechc.lowering.onnx import lower as onnx
from speechc.lowering.stream_session import BatchSession
from speechc.lowering.tflite import registry as tflite
from speechc.passes import base
from speechc.passes.base import Context, make
from speechc.passes.stream import rules
from test_plugin import EXAMPLE, needs_cc

DRAWN = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
# float32 against float32, in another order of sums; sine and power of a few units in the last place.
TOLERANCE = 1e-5


@pytest.fixture(scope="module", autouse=True)
def plugged():
    """The plugin, imported; afterwards every table is as it was."""
    assert all(targets.target(name).kinds for name in targets.TARGETS)  # every table is complete before
    base.registered()
    stream_cases._load()
    tables = [registry.OPS, base.PASSES, rules.load(), onnx.load_all(), coreml.load_all(), tflite.LOWERINGS,
              targets.PLUGGED, op_cases.CASES, pass_cases.IDIOMS, stream_cases.BUILDERS, stream_cases.WEIGHTS,
              plugins._waiting]  # fmt: skip
    before = [dict(t) for t in tables]
    sys.path.insert(0, str(EXAMPLE))
    import speechc_c  # noqa: F401

    op_cases._table()
    op_cases.case("snake", ranks=(0, 4))(lambda d, x: snake(d, x))
    pass_cases.idiom(spelled_out)
    stream_cases.builder("snake")(lambda d, x: snake(d, x))
    yield
    sys.path.remove(str(EXAMPLE))
    for table, old in zip(tables, before):
        table.clear()
        table.update(old)
    for name in [name for name in sys.modules if name.partition(".")[0] == "speechc_c"]:
        del sys.modules[name]


def alpha(d, x):
    """Frequencies that broadcast to x."""
    shape = [n if isinstance(n, int) and d.flag() else 1 for n in x.type.sizes]
    return d.weight(shape, x.type.dtype, "positive") if d.flag() else d.b.const(0.7, x.type.dtype)


def snake(d, x):
    return d.b.snake(x, alpha(d, x))


def spelled_out(d, x):
    """A snake in its variants, 1 / α given or computed, and now and then something that is none."""
    by = d.weight([1, 1, x.type.sizes[2]], "f32", "positive")
    wave = d.b.sin(d.b.mul(*d.pick([(x, by), (by, x)])))
    square = d.b.mul(wave, wave) if d.flag() else d.b.pow(wave, d.b.const(2.0, "f32"))
    inverse = d.b.weight("inverse", 1 / by.array if d.int(0, 3) else by.array)
    quotient = d.b.div(square, by) if d.flag() else d.b.mul(square, inverse)
    return d.b.add(*d.pick([(x, quotient), (quotient, x)]))


# -- the op and the pass -------------------------------------------------------------------------------------------
@given(op_cases.op_case("snake", floats=("f32", "f64", "f16")))
@settings(DRAWN, max_examples=40)
def test_rule_and_text(case):
    verify(case.module)
    for feeds in (case.feeds, case.longer()):
        run(case.graph, feeds)  # checks the result's type
    assert str(parse_module(str(case.module))) == str(case.module)


def cases_of_pass():
    draw = random.Random(0)
    others = sorted(set(pass_cases.IDIOMS) - {"spelled_out"})
    return (pass_cases.planted(["spelled_out", *draw.choices(others, k=2), "spelled_out"], seed) for seed in range(40))


@pytest.mark.slow
def test_the_pass_keeps_what_it_declares_and_finds_work():
    from test_passes import check

    changed = [check("recognise-snake", case) for case in cases_of_pass()]
    assert sum(changed) > len(changed) / 2


@pytest.mark.parametrize("name", ["onnx", *(pytest.param(n, marks=pytest.mark.slow) for n in ("tflite", "coreml"))])
def test_other_targets_have_the_op(name, tmp_path):
    @given(op_cases.op_case("snake"))
    @settings(DRAWN, max_examples=10)
    def check(case):
        assert close(case, name, tmp_path) or not case.graph.inputs[0].type.rank

    check()


def drawn(names, draw, dtype="f64"):
    """A streaming graph of these builders."""
    steps = tuple((name, draw.randint(0, 9999)) for name in names)
    return stream_cases.drawn(stream_cases.Plan(draw.randint(0, 9999), steps, dtype))


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, 8))])
def test_the_op_streams(seed):
    draw = random.Random(seed)
    names = [*draw.choices(sorted(stream_cases.BUILDERS), k=3), "snake", "conv", "snake"]
    case = drawn(names, draw)
    assert case.kinds["snake"]
    stream_proof.check(case)


SIX = """speechc 1
graph main(%x: f32[1, 6, T@audio]) {
  weight $alpha: f32[1, 6, 1] #?
  %0 = snake(%x, $alpha) : f32[1, 6, T@audio] @"net.act"
  return %0 as "y"
}"""


def test_passes_take_its_family_at_its_word():
    module = parse_module(SIX)
    make("free-batch{must=True}").run(module.main, Context())
    (op,) = module.main.ops
    assert op.kind == "snake" and str(op.result.type) == "f32[batch, 6, T@audio]"


def test_onnx_wants_real_operands():
    (op,) = parse_module(SIX.replace("$alpha: f32[1, 6, 1]", "$alpha: i8[1, 6, 1]{scale=0.1, zero=0}")).main.ops
    assert "is quantized; dequantize it first" in targets.target("onnx").illegal(op)


# -- the target ----------------------------------------------------------------------------------------------------
def close(case, name, folder) -> bool:
    """Hold a file of the target to what the graph means, at two lengths; whether the target has all its ops."""
    target, module = targets.target(name), clone(case.module)
    for text in target.legalize_for("float32"):
        make(text).run(module.main, Context())
    module.main.sweep()
    if any(target.illegal(op) for op in module.main.ops):
        return False
    path = folder / f"case{target.suffix}"
    target.emit(module, path, "float32", {})
    session = target.load(path)
    for feeds in (case.feeds, case.longer()):
        session.reset()
        wanted = run(case.graph, feeds, initial_states(case.graph))
        made = session.run_named(feeds)
        found = difference([made[n] for n in case.graph.output_names], wanted)
        assert found.error < TOLERANCE, f"{found}\n{case}"
    return True


# Builders of streaming graphs that most often take ops that the target has.
STREAMS = """
    add conv expand gru linear pad relu residual sigmoid slice snake softmax stack sub tanh unstack where
""".split()  # noqa: SIM905


def c_kinds():
    return targets.target("c").kinds


@needs_cc
@pytest.mark.parametrize("examples", [12, pytest.param(40, marks=pytest.mark.slow)])
def test_c_gives_what_random_graphs_mean(examples, tmp_path):
    done = []

    @given(op_cases.random_graph(10, kinds=c_kinds()))
    @settings(DRAWN, max_examples=examples)
    def check(case):
        done.append(close(case, "c", tmp_path))

    check()
    assert sum(done) > examples / 2


@needs_cc
@pytest.mark.slow
def test_every_kernel(tmp_path):
    for kind in sorted(c_kinds()):
        done = []

        @given(op_cases.op_case(kind))
        @settings(DRAWN, max_examples=4)
        def check(case):
            done.append(close(case, "c", tmp_path))  # noqa: B023

        check()
        assert any(done), f"{kind} is never legal"


@needs_cc
@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, 12))])
def test_c_streams(seed, tmp_path):
    """Random streaming graphs: the file of a step, fed in pieces, gives the whole."""
    draw, c, step = random.Random(seed), targets.target("c"), None
    while step is None or any(c.illegal(op) for op in step.main.ops):
        names = [*draw.choices(STREAMS, k=3), "snake", "conv"]
        case = drawn(names, draw, "f32")
        timed = all(stream_cases.time_axis(v) is not None for v in (*case.graph.inputs, *case.graph.outputs))
        step = stream_proof.step_of(case) if case.batch == 1 and timed else None
    path = tmp_path / "step.c"
    c.emit(step, path, "float32", {})
    stream = BatchSession(c.load(path), tail=float("nan")).streams[0]
    for length in (case.lengths[0], case.least):
        feeds, parts = case.feeds(length), []
        for start in range(0, length, 5):
            at = lambda v, start=start: (slice(None),) * stream_cases.time_axis(v) + (slice(start, start + 5),)
            parts.append(stream.push(*(feeds[v.name][at(v)] for v in case.graph.inputs)))
        parts.append(stream.flush())
        for i, (v, whole) in enumerate(zip(case.graph.outputs, stream_proof.whole(case, length))):
            got = np.concatenate([p[i] for p in parts], stream_cases.time_axis(v))
            assert stream_proof.distance(got, whole) < stream_proof.TOLERANCE["f32"], case
        stream.reset()

"""Calibration of a graph with states: recordings in pieces, each call from the states that the one before left."""

import numpy as np
import pytest
import speechc
from speechc.compiler.executor import Executor
from speechc.compiler.in_turn import MOST, in_turn, pieces
from speechc.compiler.recipe import digest
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.text import save
from speechc.ir.turns import Turns, calls_in
from speechc.ir.types import Tensor
from speechc.passes.base import Context
from speechc.passes.calibrate import channel_peaks, observe

SIZE, CALLS = 32, 40


def leaky(states: bool = True) -> Module:
    """y = W (x + 0.95 * what was in the bracket at the call before), which grows to several times x."""
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("net"))
    x = g.input("x", Tensor("f32", [1, SIZE]))
    before = g.state("before", x.type) if states else x
    kept = b.mul(before, b.const(0.95, "f32"))
    weights = np.random.default_rng(1).standard_normal((SIZE, SIZE)).astype(np.float32)
    y = b.add(b.linear(x, b.weight("own", weights), None), b.linear(kept, b.weight("past", weights), None))
    g.output(b.relu(y), "y")
    if states:
        b.write(before, b.add(x, kept))
    return module


def recording() -> np.ndarray:
    """Loud all the way, with a remainder that fills no call."""
    return (1 + np.random.default_rng(0).standard_normal((1, SIZE * CALLS + 5))).astype(np.float32)


def test_a_recording_becomes_calls_in_turn():
    graph, audio = leaky().main, recording()
    cut = pieces(graph, audio)
    assert np.array_equal(np.concatenate(cut, 1), audio[:, : SIZE * CALLS]) and len(cut) == CALLS
    assert [np.array_equal(a, b) for a, b in zip(pieces(graph, {"x": audio}), cut, strict=True)] == [True] * CALLS
    assert pieces(leaky(states=False).main, audio)[0] is audio
    calls = [{"x": x} for x in cut]
    (sample,) = in_turn(graph, [calls[:10], calls[10:11], calls[11:]])
    assert isinstance(sample, Turns) and calls_in(sample) == calls and pieces(graph, sample) == calls
    assert digest([sample]) == digest(calls) != digest([sample, sample])
    long = in_turn(graph, [calls] * 20)
    assert [len(calls_in(s)) for s in long] == [CALLS * 20 // 2] * 2 and CALLS * 10 <= MOST
    alone = in_turn(leaky(states=False).main, [[c] for c in calls])
    assert all(a is b for a, b in zip(alone, calls, strict=True))


@pytest.mark.parametrize("executor", [None, Executor()])
def test_ranges_are_those_of_all_calls(executor):
    graph = leaky().main
    calls = [{"x": x} for x in pieces(graph, recording())]
    values = [*graph.inputs, *(r for op in graph.ops for r in op.results)]
    states, wanted = {"before": np.zeros((1, SIZE), np.float32)}, {id(v): [] for v in values}

    def watch(op, arrays):
        for v, array in zip(op.results, arrays):
            wanted[id(v)].append(array)

    for feeds in calls:
        wanted[id(graph.inputs[0])].append(feeds["x"])
        run(graph, feeds, states, watch)
    context = Context(executor, in_turn(graph, [calls]))
    seen = observe(graph, values, context)
    for v in values:
        array = np.stack(wanted[id(v)])
        assert seen[id(v)].counts.sum() == array.size
        assert np.allclose((seen[id(v)].low, seen[id(v)].high), (array.min(), array.max()), atol=1e-4)
    results = values[1:]
    for v, peaks in zip(results, channel_peaks(graph, results, context)):
        assert np.allclose(peaks, np.abs(np.stack(wanted[id(v)])).max((0, 1)), atol=1e-4)


@pytest.mark.parametrize("given", ["whole", "in calls"])
def test_int8_of_a_state_that_builds_up(given, tmp_path):
    save(leaky(), tmp_path / "leaky.sir")
    audio = recording()
    given = [audio] if given == "whole" else pieces(leaky().main, audio)
    made = speechc.compile(
        tmp_path / "leaky.sir", output=tmp_path / "leaky.onnx", precision="int8", calibration=given, min_snr=30
    )  # SC503 with ranges of first calls, in which the state is all zeros
    assert not any("stay in float to reach" in r for r in made.report["remarks"])
    graph, states, noise, power = leaky().main, {"before": np.zeros((1, SIZE), np.float32)}, 0.0, 0.0
    for x in pieces(graph, audio):
        (right,) = run(graph, {"x": x}, states)
        noise += float(((made.run(x)[0] - right) ** 2).sum())
        power += float((right**2).sum())
    assert 10 * np.log10(power / noise) >= 30

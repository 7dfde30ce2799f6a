"""Ranges that 8 bits hold: loud features smoothed, loud units split off, and what stays in float all the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from speechc.ir.graph import Builder, Graph, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.text import clone
from speechc.ir.types import Tensor
from speechc.passes.base import Context
from speechc.passes.quantize import Quantize
from speechc.passes.quantize_fallback import affordable, decibels
from speechc.passes.smooth import Smooth
from speechc.passes.split_outliers import SplitOutliers, outliers

WIDTH, HIDDEN, LOUD = 16, 64, (5, 40, 41)


def feed_forward(loud: float = 100.0) -> Graph:
    """norm → linear → gelu → linear, three of whose hidden units are `loud` times as large as the others."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32) / np.sqrt(shape[-1], dtype=np.float32)
    graph = Graph("main")
    x = graph.input("x", Tensor("f32", (1, 8, WIDTH)))
    b = Builder(graph, Loc("net.ff", "FeedForward", "net.py:1"))
    gain = np.ones(WIDTH, np.float32)
    gain[3] = loud / 5
    y = b.layer_norm(x, b.weight("gain", gain), b.weight("shift", np.zeros(WIDTH, np.float32)), axis=2, eps=1e-5)
    first, second = normal(HIDDEN, WIDTH), normal(12, HIDDEN)
    first[:, 3] /= loud / 5
    first[list(LOUD)] *= loud
    second[:, list(LOUD)] /= loud
    y = b.gelu(b.linear(y, b.weight("first", first), None))
    graph.output(b.linear(y, b.weight("second", second), None), "y")
    return graph


def samples(count: int = 3) -> list[dict[str, np.ndarray]]:
    return [
        {"x": np.random.default_rng(seed).standard_normal((1, 8, WIDTH)).astype(np.float32)} for seed in range(count)
    ]


def quantized(*passes, **options) -> tuple[float, Context]:
    """The SNR in dB of the graph in 8 bits behind `passes`, on a sample that nothing was chosen on."""
    graph = feed_forward()
    context, held_out = Context(samples=samples()), samples(9)[-1]
    (right,) = run(graph, held_out)
    other = clone(Module({"main": graph}, graph.weights)).main
    for p in (*passes, Quantize(keep="", method="min-max", kinds="linear", **options)):
        p.run(other, context)
    (found,) = run(other, held_out)
    return -10 * np.log10(float(((found - right) ** 2).sum() / (right**2).sum())), context


def test_each_pass_helps_and_both_together_the_most():
    plain, smooth, split, both = (
        quantized(*passes)[0] for passes in ((), (Smooth(),), (SplitOutliers(),), (Smooth(), SplitOutliers()))
    )
    assert min(smooth, split) > plain
    assert both > max(smooth, split) + 3
    assert both > plain + 6


def test_the_loud_units_are_found():
    graph, context = feed_forward(), Context(samples=samples())
    SplitOutliers().run(graph, context)
    (remark,) = context.remarks
    assert remark.message.startswith("3 units reach")
    assert [op.kind for op in graph.ops] == [
        "layer_norm",
        "linear",
        "gelu",
        "linear",
        "linear",
        "gelu",
        "linear",
        "add",
    ]


def test_units_that_are_alike_stay_together():
    graph, context = feed_forward(1.0), Context(samples=samples())
    SplitOutliers().run(graph, context)
    assert [op.kind for op in graph.ops] == ["layer_norm", "linear", "gelu", "linear"]


@pytest.mark.parametrize(
    ("loud", "found"),
    [
        ([100.0] + [1.0] * 63, [0]),
        ([1.0] * 63 + [2.0], None),
        ([0.0] * 64, None),
        ([9.0, 8.0, 7.0, 6.0, 5.0] + [1.0] * 59, None),  # more than one in sixteen
        ([100.0, 1.0], None),
    ],
)
def test_outliers(loud, found):
    units = outliers(np.array(loud, np.float32))
    assert (units is None) if found is None else units.tolist() == found


def test_without_samples_nothing_changes():
    graph = feed_forward()
    before = str(graph)
    for p in (Smooth(), SplitOutliers()):
        p.run(graph, Context())
    assert str(graph) == before


def test_what_costs_the_most_stays_in_float():
    """Noises that add up: the ops left in float are the fewest that reach the goal, whichever they are."""
    rng = np.random.default_rng(3)
    for goal, trial in itertools.product((10.0, 20.0, 30.0), range(20)):
        noises = dict(zip(range(24), 10 ** rng.uniform(-5, -1, 24)))
        tried = []
        noise = lambda some, noises=noises, tried=tried: tried.append(some) or sum(noises[o] for o in some)
        kept, reached = affordable(list(noises), noise, goal, runs=1000)
        assert len(tried) <= 2 + (len(noises) - len(kept)) * np.log2(2 * len(noises))
        assert reached == decibels(noise(kept)) >= goal
        ordered, left = sorted(noises.values(), reverse=True), 0
        while decibels(sum(ordered[left:])) < goal:
            left += 1
        assert len(noises) - len(kept) == left, (goal, trial)


def test_a_goal_out_of_reach_changes_nothing():
    assert affordable([1, 2], lambda some: 1.0, 20.0) == ([1, 2], 0.0)
    assert affordable([1, 2, 3], lambda some: float(len(some)), 20.0, runs=3)[0] == [1, 2, 3]


def test_the_quantizer_reaches_what_it_is_told():
    plain, _ = quantized()
    reached, context = quantized(reach=plain + 6)
    assert reached > plain + 3
    assert any("ops stay in float to reach" in r.message for r in context.remarks)
    assert sum("it costs the most" in r.message for r in context.remarks) == 1


def test_a_goal_that_is_met_leaves_nothing_in_float():
    reached, context = quantized(Smooth(), SplitOutliers(), reach=10.0)
    assert reached > 10
    assert not any("stay in float" in r.message for r in context.remarks)

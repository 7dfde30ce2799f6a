"""The proof of streaming: on random graphs, chunk by chunk equals the whole, and no frame comes later than it must."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from speechc.compiler.step_runner import GraphSession, run_stream
from speechc.ir.interpreter import run as interpret
from speechc.lowering.stream_session import BatchSession
from speechc.passes.stream.rules import load
from stream_cases import EVEN, EXACT_ONLY, UNEVEN, drawn, plans, stream_graphs, time_axis
from stream_proof import (
    TOLERANCE,
    check,
    delays,
    distance,
    early_streams,
    faults,
    least_delay,
    newest,
    step_of,
    unequal_joins,
)

GRAPHS, SHARDS = 2000, 40
# Builders that hide what they depend on.
HIDING = {"relu", "then", "abs", "max_pool", "cummax", "minimum", "maximum", "max", "min", "where", "unet", "conv 2-D"}
HIDING |= {
    "softmax",
    "heads",
    "take channels",
    "some channels",
    "across channels",
    "frames as batch",
    "pad before window",
}
DRAWN = settings(deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])


def proven(count: int, first: int = 0, seed: int = 0) -> list:
    """Check graphs `first` to `first + count` of the suite."""
    return [(case, check(case)) for case in map(drawn, list(plans(first + count, seed))[first:])]


@pytest.mark.parametrize("shard", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_chunk_by_chunk_is_the_whole(shard):
    proven(20, 20 * shard, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_chunk_by_chunk_is_the_whole_in_the_suite(shard, record_property):
    size = GRAPHS // SHARDS
    made = [drawn(plan) for plan in list(plans(size * (shard + 1)))[size * shard :]]
    record_property("streaming", json.dumps([facts(case) for case in made]))


def facts(case) -> dict:
    """A graph, checked; what the histogram counts of it."""
    with unequal_joins() as joins:
        step = check(case)
    return {
        "joins": joins[0],
        "ops": len(case.graph),
        "kinds": sorted(case.kinds),
        "builders": sorted(case.features),
        "rates": case.changes_rate,
        "step ops": len(step.main),
    }


@settings(DRAWN, max_examples=60)
@given(stream_graphs())
def test_any_graph_streams(case):
    check(case)


@pytest.mark.parametrize("plan", list(plans(25, seed=2)), ids=range(25))
def test_steps_of_any_size_agree(plan):
    """A step of B, of 2B and of the least size."""
    case = drawn(plan)
    for chunk in {case.base, case.step, 2 * case.step}:
        assert not list(faults(case, step_of(case, chunk))), (chunk, case)


# -- what the suite holds ----------------------------------------------------------------------------------------------
# Written by the pass itself or by other passes; a captured model has none.
NEVER_CAPTURED = {"retime", "history", "read", "write"}


def test_every_rule_has_a_builder():
    seen = Counter(kind for plan in plans(300) for kind in drawn(plan).kinds)
    assert not set(load()) - NEVER_CAPTURED - set(seen)


@pytest.mark.slow
def test_the_suite_holds_what_it_should():
    """Every builder, and every op that has a rule, often enough; long graphs; rates that change; unequal delays."""
    kinds, features, ops, rates = Counter(), Counter(), [], 0
    for plan in plans(GRAPHS):
        case = drawn(plan)
        kinds.update(set(case.kinds))
        features.update(set(case.features))
        ops.append(len(case.graph))
        rates += case.changes_rate
    assert np.median(ops) >= 10 and rates >= 0.3 * GRAPHS
    assert min(kinds.values()) >= 100, kinds.most_common()[-5:]
    assert min(kinds[k] for k in set(load()) - NEVER_CAPTURED) >= 100, kinds.most_common()[-5:]
    assert min(features.values()) >= 50, features.most_common()[-5:]


@pytest.mark.slow
def test_streams_that_are_not_equally_late_meet():
    met = 0
    for plan in plans(200):
        with unequal_joins() as joins:
            step_of(drawn(plan))
        met += joins[0] > 0
    assert met >= 0.3 * 200


# -- delays ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shard", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))])
def test_no_frame_waits_for_the_future_or_in_vain(shard):
    """No output depends on input frames beyond its step, and with one frame less of delay some would.

    Where padding would make a stream early, its delay is 0, and what comes behind it may be later than it must. So may
    one attention by chunks behind another: a stream is as late as its latest frame at every place of a chunk.
    """
    chosen = plans(120, seed=3, only=lambda name: name not in HIDING | EXACT_ONLY)
    for plan in list(chosen)[24 * shard : 24 * shard + 24]:
        case = drawn(replace(plan, steps=plan.steps[:6], dtype="f64"))
        with early_streams() as early:
            step = step_of(case)
        length = min(case.most, case.least + 3 * case.step + 30)
        for name, seen, time in zip(case.graph.output_names, newest(case, length), delays(step), strict=True):
            least = least_delay(seen, time, case.step)
            assert time.delay >= least, f"{name} is {time.delay} late, needs {least}\n{case}"
            excused = early[0] or (case.features[UNEVEN] and case.features[UNEVEN] + case.features[EVEN] > 1)
            assert time.delay == least or excused, f"{name} is {time.delay} late, {least} would do\n{case}"


# -- streams of one batch ----------------------------------------------------------------------------------------------
def several(count: int):
    """Cases of more than one stream."""
    return [case for case in map(drawn, plans(4 * count, seed=4)) if case.batch > 1][:count]


def test_streams_of_a_batch_are_streams_alone():
    for case in several(12):
        together = run_stream(step_of(case).main, case.feeds(max(case.lengths)), lengths=case.lengths)
        alone = step_of(case, batch=1)
        for i, n in enumerate(case.lengths):
            feeds = {k: v[i : i + 1] for k, v in case.feeds(n).items()}
            for a, b in zip(together[i], run_stream(alone.main, feeds), strict=True):
                assert distance(a, b) <= 1e-10, case


def test_pieces_of_any_size_and_streams_that_begin_again():
    """Utterances one after the other in every stream of a batch, in random pieces: each is as if it were alone."""
    for case in several(12):
        batch = BatchSession(GraphSession(*followed(case)), constants(case), tail=np.nan)
        random = np.random.default_rng(case.plan.seed)
        for turn in range(2):
            for i, n in enumerate(case.lengths if turn else case.lengths[::-1]):
                feeds, at, parts = case.feeds(n, salt=turn), 0, []
                while at < n:
                    to = int(random.integers(at, n + 1))
                    chunk = [taken(feeds[v.name], v, i, at, to) for v in streamed(case)]
                    parts.append(batch.streams[i].push(*chunk))
                    at = to
                parts.append(batch.streams[i].flush())
                batch.streams[i].reset()
                whole = interpret(case.graph, feeds)
                for v, y, *got in zip(case.graph.outputs, whole, *parts, strict=True):
                    joined = np.concatenate(got, time_axis(v))
                    assert distance(joined, y[i : i + 1]) <= TOLERANCE[case.plan.dtype], case


def streamed(case):
    return [v for v in case.graph.inputs if time_axis(v) is not None]


def constants(case) -> dict:
    return {v.name: case.feeds(1)[v.name] for v in case.graph.inputs if time_axis(v) is None}


def taken(array, v, stream: int, start: int, stop: int):
    return array[stream : stream + 1].take(range(start, stop), time_axis(v))


def followed(case) -> tuple:
    """The step graph, and what a driver says of it: which axis of each state counts the streams."""
    step, more = step_of(case), step_of(case, batch=case.batch + 1)
    axes = {}
    for (name, one), two in zip(step.main.states.items(), more.main.states.values(), strict=True):
        (axes[name],) = [i for i, (a, b) in enumerate(zip(one.type.sizes, two.type.sizes)) if a != b]
    facts = {"chunk": case.step, "clock": "audio", "symbol": "T", "batch": case.batch}
    return step.main, {"streaming": facts, "state_batch": axes}

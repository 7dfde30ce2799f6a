"""The proof of streaming on emitted files: random step graphs as ONNX and TFLite, run by their own runtimes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
from speechc.lowering.target import target
from speechc.passes.base import Context, make
from stream_cases import EXACT_ONLY, StreamCase, drawn, plans
from stream_proof import TOLERANCE, faults, rounding, step_of

GRAPHS, SHARDS = 40, 4
# LiteRT's depthwise kernels multiply what lies beside a window by 0, so that a NaN there would spread.
TAILS = {"onnx": (float("nan"), 1e4, -1e4), "tflite": (1e4, -1e4)}


def cases(kind: str) -> Iterator[StreamCase]:
    """The same graphs every time, all float32 and without jumps; for ONNX, which has no others, channels first."""
    for plan in plans(2 * GRAPHS, seed=5):
        steps = tuple(s for s in plan.steps if s[0] not in EXACT_ONLY)
        case = drawn(replace(plan, steps=steps, dtype="f32"))
        if kind != "onnx" or not any(op.attrs.get("channel_last") for op in case.graph.ops):
            yield case


def runner(kind: str, step, folder):
    """Runs one step of the file instead of the graph; the file keeps its states itself."""
    to = target(kind)
    for text in to.legalize_for("float32"):
        make(text).run(step.main, Context())
    to.check(step.main)
    path = folder / f"step{to.suffix}"
    to.emit(step, path, "float32", {})
    session = to.load(path, 1)

    def run(graph, feeds, states):
        out = session.run_named(feeds)
        return [out[name] for name in graph.output_names]

    return session, run


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("kind", TAILS)
def test_the_file_chunk_by_chunk_is_the_whole(kind, shard, tmp_path):
    chosen = list(islice(cases(kind), GRAPHS))[shard::SHARDS]
    for number, case in enumerate(chosen):
        step = step_of(case)
        (tmp_path / str(number)).mkdir()
        # A runtime has other exponentials: what graphs make of roundings counts more here than their order.
        tolerance = max(TOLERANCE["f32"], *(4 * rounding(case, n) for n in case.lengths))
        assert tolerance < 1e-4, case
        session, run = runner(kind, step, tmp_path / str(number))
        for tail in TAILS[kind]:
            session.reset()
            assert not list(faults(case, step, tolerance, run=run, tail=tail)), case

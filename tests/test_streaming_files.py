"""The proof of streaming on emitted files: random step graphs as ONNX and TFLite, run by their own runtimes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
from stream_cases import EXACT_ONLY, StreamCase, drawn, plans
from stream_proof import TOLERANCE, faults, rounding, runner, step_of

GRAPHS, SHARDS = 40, 4
TAILS = (float("nan"), 1e4, -1e4)


def cases(kind: str) -> Iterator[StreamCase]:
    """The same graphs every time, all float32 and without jumps; for ONNX, which has no others, channels first."""
    for plan in plans(2 * GRAPHS, seed=5):
        steps = tuple(s for s in plan.steps if s[0] not in EXACT_ONLY)
        case = drawn(replace(plan, steps=steps, dtype="f32"))
        if kind != "onnx" or not any(op.attrs.get("channel_last") for op in case.graph.ops):
            yield case


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_the_file_chunk_by_chunk_is_the_whole(kind, shard, tmp_path):
    chosen = list(islice(cases(kind), GRAPHS))[shard::SHARDS]
    for number, case in enumerate(chosen):
        step = step_of(case)
        (tmp_path / str(number)).mkdir()
        # A runtime has other exponentials: what graphs make of roundings counts more here than their order.
        tolerance = max(TOLERANCE["f32"], *(4 * rounding(case, n) for n in case.lengths))
        assert tolerance < 1e-4, case
        session, run = runner(kind, step, tmp_path / str(number))
        for tail in TAILS:
            session.reset()
            assert not list(faults(case, step, tolerance, run=run, tail=tail)), case

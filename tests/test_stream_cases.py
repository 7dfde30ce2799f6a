"""The random graphs of the proof of streaming: well-formed, tame, and with all that the proof asks of them."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from speechc.ir.interpreter import run
from speechc.ir.text import parse_module
from speechc.ir.verifier import verify
from stream_cases import drawn, plans, stream_graphs


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(stream_graphs())
def test_any_graph_is_whole(case):
    verify(case.module)
    assert str(parse_module(str(case.module))) == str(case.module)
    for length in {case.least, *case.lengths}:
        for y in run(case.graph, case.feeds(length)):
            assert y.size and np.isfinite(y).all() and np.abs(y).max() < 1e4, case
    assert case.step % case.base == 0 and min(case.lengths) >= case.least


def test_a_longer_input_begins_with_a_shorter_one():
    case = drawn(next(plans(1)))
    for name, array in case.feeds(9).items():
        axis = array.ndim - 1 if array.shape[-1] == 9 else 1
        np.testing.assert_array_equal(array.take(range(5), axis), case.feeds(5)[name])

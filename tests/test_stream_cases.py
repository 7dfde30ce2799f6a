"""The random graphs of the proof of streaming: well-formed, tame, and with all that the proof asks of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from speechc.ir.interpreter import run
from speechc.ir.text import parse_module
from speechc.ir.verifier import verify
from stream_cases import drawn, plans, stream_graphs

GRAPHS = 2000
EACH = 100  # graphs in which every kind of op is


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


@pytest.mark.slow
def test_the_suite_holds_what_it_should():
    """Every builder and every kind of op often enough; long graphs; rates that change."""
    kinds, features, ops, rates = Counter(), Counter(), [], 0
    for plan in plans(GRAPHS):
        case = drawn(plan)
        kinds.update(set(case.kinds))
        features.update(set(case.features))
        ops.append(len(case.graph))
        rates += case.changes_rate
    assert np.median(ops) >= 10 and rates >= 0.3 * GRAPHS
    assert min(kinds.values()) >= EACH, kinds.most_common()[-5:]
    assert min(features.values()) >= EACH / 2, features.most_common()[-5:]

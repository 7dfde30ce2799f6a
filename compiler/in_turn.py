"""A model with states of its own, called several times in turn: every call finds what the one before it left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.graph import Graph
from ..ir.interpreter import initial_states
from ..ir.interpreter import run as interpret
from .samples import Feeds, real_outputs, stored_feeds

CALLS = 4  # the first shows no state at all, the second one that is wrongly kept, later ones what such errors grow to

Outputs = tuple[np.ndarray, ...]


def calls_of(graph: Graph, feeds: Feeds) -> list[Feeds]:
    """Inputs for `CALLS` calls: `feeds`, then the same moved round along time (the last axis where there is none).

    Of a graph without states, which cannot tell its calls apart, `feeds` alone.
    """
    if not graph.states:
        return [feeds]
    timed = {v.name: next((i for i, d in enumerate(v.type.shape) if d.time is not None), -1) for v in graph.inputs}
    moved = lambda a, axis, call: np.roll(a, call * a.shape[axis] // CALLS, axis) if a.ndim else a
    return [{n: moved(a, timed[n], call) for n, a in feeds.items()} for call in range(CALLS)]


def joined(calls: Sequence[Sequence[np.ndarray]]) -> Outputs:
    """Outputs of calls in turn, one behind the other along a new first axis; those of one call as they are."""
    return tuple(calls[0]) if len(calls) == 1 else tuple(np.stack(arrays) for arrays in zip(*calls, strict=True))


def interpreted(graph: Graph, *calls: Feeds) -> Outputs:
    """What a graph gives for calls in turn from its initial states, `joined`, as real numbers."""
    states = initial_states(graph)
    return joined([real_outputs(graph, interpret(graph, stored_feeds(graph, feeds), states)) for feeds in calls])

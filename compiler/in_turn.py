"""A model with states of its own, called several times in turn: every call finds what the one before it left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ..ir.graph import Graph
from ..ir.interpreter import initial_states
from ..ir.interpreter import run as interpret
from ..ir.turns import Outputs, Turns, calls_in, joined
from .samples import Feeds, real_outputs, stored_feeds

CALLS = 4  # the first shows no state at all, the second one that is wrongly kept, later ones what such errors grow to
MOST = 500  # calls of a sample: 16 s of 32 ms each


def calls_of(graph: Graph, feeds: Feeds) -> list[Feeds]:
    """Inputs for `CALLS` calls: `feeds`, then the same moved round along time (the last axis where there is none).

    The calls of `Turns` as they are; of a graph without states, which cannot tell its calls apart, `feeds` alone.
    """
    if isinstance(feeds, Turns):
        return calls_in(feeds)
    if not graph.states:
        return [feeds]
    timed = {v.name: next((i for i, d in enumerate(v.type.shape) if d.time is not None), -1) for v in graph.inputs}
    moved = lambda a, axis, call: np.roll(a, call * a.shape[axis] // CALLS, axis) if a.ndim else a
    return [{n: moved(a, timed[n], call) for n, a in feeds.items()} for call in range(CALLS)]


def pieces(graph: Graph, sample: Any) -> list[Any]:
    """Consecutive pieces of a recording that is longer than the only input of a graph with states takes.

    They are cut along time (the last axis where there is none, if the others are 1); what is left over is dropped.
    `Turns` are cut already; anything else comes back as it is, alone.
    """
    if isinstance(sample, Turns):
        return calls_in(sample)
    if not graph.states or len(graph.inputs) != 1:
        return [sample]
    (v,) = graph.inputs
    array = next(iter(sample.values())) if isinstance(sample, Mapping) and list(sample) == [v.name] else sample
    sizes, timed = v.type.sizes, [i for i, d in enumerate(v.type.shape) if d.time is not None]
    if not isinstance(array, np.ndarray) or array.ndim != len(sizes) or not sizes:
        return [sample]
    axis = timed[0] if timed else len(sizes) - 1
    size, length = sizes[axis], array.shape[axis]
    others_are_1 = all(s == 1 for i, s in enumerate(sizes) if i != axis)
    if not isinstance(size, int) or length <= size or not (timed or others_are_1):
        return [sample]
    return [array.take(range(at, at + size), axis) for at in range(0, length - size + 1, size)]


def in_turn(graph: Graph, samples: Iterable[list[Feeds]]) -> list[Feeds]:
    """Samples out of the calls of each.

    A graph with states whose inputs have one size hears one behind the other, as from a microphone, in `Turns` of about
    the same number of calls, at most `MOST`; another has every sample for itself.
    """
    if not graph.states or not all(v.type.static for v in graph.inputs):
        return [calls[0] for calls in samples]
    calls = [feeds for some in samples for feeds in some]
    ends = np.linspace(0, len(calls), -(-len(calls) // MOST) + 1).astype(int)
    return [Turns(calls[a:b]) for a, b in pairwise(ends)]


def interpreted(graph: Graph, *calls: Feeds) -> Outputs:
    """What a graph gives for calls in turn from its initial states, `joined`, as real numbers."""
    states = initial_states(graph)
    return joined([real_outputs(graph, interpret(graph, stored_feeds(graph, feeds), states)) for feeds in calls])

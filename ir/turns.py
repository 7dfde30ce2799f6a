"""A sample of several calls: what a graph with states is given in turn, every call after what the one before left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .graph import Graph
from .interpreter import initial_states
from .interpreter import run as interpret

Feeds = Mapping[str, np.ndarray]
Outputs = tuple[np.ndarray, ...]


class Turns(dict):
    """Inputs of the first call, from the initial states, by name; `after`: those of the calls that follow."""

    def __init__(self, calls: Sequence[Feeds]):
        super().__init__(calls[0])
        self.after = list(calls[1:])


def calls_in(feeds: Feeds) -> list[Feeds]:
    """The calls of a sample, in order; one alone where it is no `Turns`."""
    return [feeds, *feeds.after] if isinstance(feeds, Turns) else [feeds]


def joined(calls: Sequence[Sequence[np.ndarray]]) -> Outputs:
    """Outputs of calls in turn, one behind the other along a new first axis; those of one call as they are."""
    return tuple(calls[0]) if len(calls) == 1 else tuple(np.stack(arrays) for arrays in zip(*calls, strict=True))


def play(graph: Graph, *calls: Feeds) -> Outputs:
    """What the interpreter gives for calls in turn from the initial states, `joined`."""
    states = initial_states(graph)
    return joined([interpret(graph, feeds, states) for feeds in calls])

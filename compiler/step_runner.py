"""Runs a step graph chunk by chunk over whole utterances: what the proof of streaming compares with the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir.errors import NumericalError, UsageError
from ..ir.graph import Graph
from ..ir.interpreter import initial_states
from ..ir.interpreter import run as interpret
from ..ir.types import DTYPES
from ..lowering.manifest import manifest_of
from ..lowering.streaming import CLOCK_INPUT, RANGE_SUFFIX, Layout, Track, layout_of
from ..lowering.target import Session


class GraphSession(Session):
    """A graph in the interpreter behind the interface of a file."""

    def __init__(self, graph: Graph, meta: Mapping[str, Any] | None = None):
        self.graph, self.manifest = graph, manifest_of(graph, graph.name, "interpreter", "float32", dict(meta or {}))
        self.reset()

    def reset(self) -> None:
        self.states = initial_states(self.graph)

    def run_named(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.graph.output_names, interpret(self.graph, feeds, self.states), strict=True))


Run = Callable[[Graph, Mapping[str, np.ndarray], dict[str, np.ndarray]], Sequence[np.ndarray]]


def run_stream(
    step: Graph,
    feeds: Mapping[str, np.ndarray],
    *,
    tail: float = np.nan,
    run: Run = interpret,
    lengths: Sequence[int] | None = None,
) -> tuple[np.ndarray, ...] | list[tuple[np.ndarray, ...]]:
    """The model's outputs (in order, without ranges) for whole-utterance inputs that are fed chunk by chunk.

    `feeds`: the model's inputs by name, time axes of any length, batch as in the graph. Frames behind the end of a
    stream hold `tail` (integers: the largest value of that input; bool: True). With `lengths`, stream i of the batch
    has that many frames of the first streaming input; the result is then a list with one tuple (batch axis kept, of
    size 1) a stream. `run(graph, feeds, states)` computes one step and updates `states` in place.

    Raises `NumericalError` SC504 where an output has not exactly the frames that its type promises.
    """
    layout = layout_of(manifest_of(step, "", "", "float32", {}), len(lengths) if lengths is not None else None)
    first = layout.inputs[0]
    frames = list(lengths) if lengths is not None else [feeds[first.name].shape[first.axis]] * layout.batch
    ticks = [layout.ticks(n) for n in frames]
    padded = {t.name: _padded(step, feeds[t.name], t, ticks, tail) for t in layout.inputs}
    states, parts, got = initial_states(step), {}, {}
    names = [n for n in step.output_names if not (layout.clocked and n.endswith(RANGE_SUFFIX))]
    for k in range(max(layout.steps(n) for n in frames)):
        given = {t.name: _block(padded[t.name], t, k, tail, feeds[t.name]) for t in layout.inputs}
        given |= {p.name: feeds[p.name] for p in layout.constants}
        if layout.clocked:
            given[CLOCK_INPUT] = np.array([min(max(n - k * layout.chunk, 0), layout.chunk) for n in frames], np.int32)
        got = dict(zip(step.output_names, run(step, given, states), strict=True))
        for t in layout.outputs:
            ranges = real_range(layout, t, k, ticks, got)
            for i, (start, stop) in enumerate(ranges if lengths is not None else [_common(t, ranges)]):
                row = _row(got[t.name], t, i) if lengths is not None else got[t.name]
                if stop > start:
                    parts.setdefault((t.name, i), []).append(row.take(range(start, stop), t.axis))
                else:
                    parts.setdefault((t.name, i), []).append(row.take([], t.axis))
    count = len(frames) if lengths is not None else 1
    whole = {key: np.concatenate(p, _track(layout, key[0]).axis) for key, p in parts.items()}
    for (name, i), array in whole.items():
        t = _track(layout, name)
        if array.shape[t.axis] != t.frames(ticks[i]):
            raise NumericalError(
                "SC504", f"streamed, {name} has {array.shape[t.axis]} frames, of {t.frames(ticks[i])} ({t.length})"
            )
    results = [tuple(whole.get((n, i), got.get(n)) for n in names) for i in range(count)]
    return results if lengths is not None else results[0]


def real_range(
    layout: Layout, t: Track, k: int, ticks: Sequence[int | None], got: Mapping[str, np.ndarray]
) -> list[tuple[int, int]]:
    """[first, last) of the real frames of an output in step `k`, a pair a stream: the graph's word, or by its type."""
    if layout.clocked:
        return [(int(a), int(b)) for a, b in got[t.name + RANGE_SUFFIX]]
    return [(0, min(max(t.frames(n) - k * t.block, 0), t.block)) for n in ticks]


def _common(t: Track, ranges: list[tuple[int, int]]) -> tuple[int, int]:
    if len(set(ranges)) != 1:
        raise NumericalError("SC504", f"streams of one length have other frames of {t.name}: {ranges}")
    return ranges[0]


def _track(layout: Layout, name: str) -> Track:
    return next(t for t in layout.outputs if t.name == name)


def _row(array: np.ndarray, t: Track, stream: int) -> np.ndarray:
    return array if t.batch_axis is None else array.take([stream], t.batch_axis)


def _padded(step: Graph, array: np.ndarray, t: Track, ticks: Sequence[int | None], tail: float) -> np.ndarray:
    """The whole input, frames behind the end of each stream replaced by the tail."""
    type = next(v.type for v in step.inputs if v.name == t.name)
    if array.dtype != DTYPES[type.dtype]:
        raise UsageError("SC111", f"input {t.name} is {array.dtype}, the graph takes {type}")
    out = array.copy()
    for i, n in enumerate(ticks):
        where: list[slice | int] = [slice(None)] * array.ndim
        if t.batch_axis is not None:
            where[t.batch_axis] = i
        where[t.axis] = slice(t.frames(n), None)
        out[tuple(where)] = tail_value(array, tail)
    return out


def _block(padded: np.ndarray, t: Track, k: int, tail: float, source: np.ndarray) -> np.ndarray:
    part = padded.take(range(k * t.block, min((k + 1) * t.block, padded.shape[t.axis])), t.axis)
    pads = [(0, t.block - part.shape[t.axis] if axis == t.axis else 0) for axis in range(part.ndim)]
    return np.ascontiguousarray(np.pad(part, pads, constant_values=tail_value(source, tail)))


def tail_value(array: np.ndarray, tail: float):
    """What stands behind the end of an input: `tail`; for integers the largest value seen, which is in range."""
    if np.issubdtype(array.dtype, np.floating):
        return array.dtype.type(tail)
    return array.max() if array.size else array.dtype.type(0)

"""Feeds to check and calibrate with: the user's own, cut to other lengths, or drawn at random from the input types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..ir.errors import UsageError
from ..ir.expr import evaluate, symbols
from ..ir.graph import Graph
from ..ir.interpreter import bind_sizes
from ..ir.registry import dequantized, quantized
from ..ir.types import DTYPES, offline
from ..lowering.manifest import Manifest
from ..lowering.streaming import CLOCK_INPUT

Feeds = dict[str, np.ndarray]


def draw(graph: Graph, sizes: Mapping[str, int], seed: int = 0) -> Feeds:
    """Random inputs of the given sizes: normal floats (a tenth as loud where the last axis is time: audio), 0 or 1."""
    random = np.random.default_rng(seed)
    feeds = {}
    for v in graph.inputs:
        shape = tuple(evaluate(d.size, sizes) for d in v.type.shape)
        if v.type.is_float:
            loud = 0.1 if v.type.shape and v.type.shape[-1].time is not None else 1.0
            feeds[v.name] = (loud * random.standard_normal(shape)).astype(DTYPES[v.type.dtype])
        else:
            feeds[v.name] = random.integers(0, 2, shape).astype(DTYPES[v.type.dtype])
    return feeds


def free_symbols(graph: Graph) -> list[str]:
    """The symbols of the input types, in order of appearance."""
    found: dict[str, None] = {}
    for v in graph.inputs:
        for d in v.type.shape:
            found.update(dict.fromkeys(sorted(symbols(d.size))))
    return list(found)


def default_sizes(graph: Graph, limits: Mapping[str, list[int | None]]) -> dict[str, int]:
    """A size for every symbol: 2 s of audio at 8 kHz where an input is bare audio, else 160 frames, within limits."""
    sizes = {}
    for name in free_symbols(graph):
        timed = [d.time is not None for v in graph.inputs for d in v.type.shape if name in symbols(d.size)]
        bare = any(
            v.type.rank <= 2 and v.type.is_float and name in symbols(v.type.shape[-1].size) for v in graph.inputs
        )
        n = (16000 if bare else 160) if any(timed) else 2
        least, most = limits.get(name, [1, None])
        sizes[name] = max(least or 1, n if most is None else min(n, most))
    return sizes


def at_lengths(feeds: Feeds, graph: Graph, limits: Mapping[str, list[int | None]]) -> list[Feeds]:
    """The feeds as they are, and once more at about two thirds of every free length (repeated where that is too short).

    A graph without free sizes gives the feeds alone.
    """
    sizes = bind_sizes(graph, feeds)
    other = {}
    for name, n in sizes.items():
        least, most = limits.get(name, [1, None])
        wanted = max(least or 1, n * 2 // 3 + 1)
        other[name] = wanted if wanted != n else (n + 1 if most is None or n < most else n)
    if not sizes or other == sizes:
        return [feeds]
    return [feeds, {v.name: _cut(feeds[v.name], [evaluate(d.size, other) for d in v.type.shape]) for v in graph.inputs}]


def fitting(feeds: list[Feeds], graph: Graph, manifest: Manifest) -> list[Feeds]:
    """The feeds at sizes that a file takes: as they are, or cut or repeated to the nearest of its lengths.

    Where two would come out alike, the later one has another length, if the file takes one.
    """
    made, used = [], []
    for feed in feeds:
        sizes = bind_sizes(graph, stored_feeds(graph, feed))
        wanted = {name: _nearest(n, manifest, name) for name, n in sizes.items()}
        if wanted != sizes and wanted in used:
            wanted = {name: _another(n, manifest, name) for name, n in wanted.items()}
        used.append(wanted)
        made.append(feed if wanted == sizes else resized(feed, graph, wanted))
    return made


def _another(n: int, manifest: Manifest, name: str) -> int:
    """A length near `n` that a file takes as well."""
    if few := manifest.lengths.get(name):
        return min((m for m in few if m != n), key=lambda m: abs(m - n), default=n)
    least, most = manifest.limits.get(name, [None, None])
    if most is None or n < most:
        return min(n * 3 // 2 + 1, n * 2 if most is None else most)
    return max(n * 2 // 3, least or 1)


def _nearest(n: int, manifest: Manifest, name: str) -> int:
    if few := manifest.lengths.get(name):
        return min(few, key=lambda length: abs(length - n))
    least, most = manifest.limits.get(name, [None, None])
    return min(max(n, least or 1), most or n)


def resized(feeds: Feeds, graph: Graph, sizes: Mapping[str, int]) -> Feeds:
    """The feeds cut, or repeated, to other sizes of the graph's symbols."""
    return {v.name: _cut(feeds[v.name], [evaluate(d.size, sizes) for d in v.type.shape]) for v in graph.inputs}


def step_feeds(graph: Graph, steps: int) -> list[Feeds]:
    """Random chunks for the graph of one step, whole ones and at the end half of one; none for other graphs."""
    timed = [d for v in graph.inputs for d in v.type.shape if d.time is not None]
    if not timed or all(offline(d) for d in timed):
        return []
    (chunk, *_) = (d.size for d in timed)
    calls = [draw(graph, {}, seed) for seed in range(steps)]
    for index, feeds in enumerate(calls):
        if CLOCK_INPUT in feeds:
            feeds[CLOCK_INPUT][:] = chunk if index < steps - 1 else chunk // 2
    return calls


def check_limits(graph: Graph, feeds: Feeds, limits: Mapping[str, list[int | None]], what: str) -> None:
    """Raise `UsageError` where a size is outside the range that the capture found."""
    for name, n in bind_sizes(graph, feeds).items():
        least, most = limits.get(name, [1, None])
        if n < (least or 1) or (most is not None and n > most):
            wanted = f"{least} or more" if most is None else f"{least} to {most}"
            raise UsageError("SC112", f"{what}: {name} is {n}, the model takes {wanted}")


def _cut(array: np.ndarray, shape: list[int]) -> np.ndarray:
    for axis, n in enumerate(shape):
        if array.shape[axis] < n:
            array = np.concatenate([array] * -(-n // array.shape[axis]), axis)
        array = array.take(range(n), axis)
    return np.ascontiguousarray(array)


def as_feeds(graph: Graph, given) -> Feeds:
    """Arrays by input name, from a mapping, a sequence in input order, or a single array; torch tensors too."""
    names = [v.name for v in graph.inputs]
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        items = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(items) != len(names):
            raise UsageError("SC110", f"{len(items)} inputs given, the model takes {len(names)} ({', '.join(names)})")
        pairs = list(zip(names, items))
    feeds = {}
    for name, x in pairs:
        array = np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)
        feeds[name] = array.astype(np.float32) if array.dtype == np.float64 else array
    bind_sizes(graph, feeds)
    return feeds


def filled(graph: Graph, given):
    """A recording [1, samples] with silence behind it, where the only input is audio of a fixed, greater length."""
    if not isinstance(given, np.ndarray) or given.ndim != 2 or len(graph.inputs) != 1:
        return given
    type = graph.inputs[0].type
    if type.rank != 2 or not type.is_float or not isinstance(type.sizes[1], int) or given.shape[1] >= type.sizes[1]:
        return given
    return np.pad(given, ((0, 0), (0, type.sizes[1] - given.shape[1])))


def stored_feeds(graph: Graph, feeds: Feeds) -> Feeds:
    """The feeds as the graph's inputs store them: on the grid of an input that is quantized."""
    grids = {v.name: v.type for v in graph.inputs if v.type.quant is not None}
    return {
        n: quantized(a, grids[n].dtype, grids[n].quant.scale, grids[n].quant.zero_point) if n in grids else a
        for n, a in feeds.items()
    }


def real_outputs(graph: Graph, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Outputs as the real numbers that they stand for."""
    return tuple(
        dequantized(a, v.type, lambda name: graph.weights[name].array) if v.type.quant is not None else a
        for v, a in zip(graph.outputs, arrays)
    )

"""Calibration: run a graph on samples, keep a histogram of each value of interest, and choose its 8-bit range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ir.errors import NumericalError, UsageError
from ..ir.expr import evaluate
from ..ir.graph import Graph, Module, Op, Value
from ..ir.interpreter import bind_sizes, initial_states
from ..ir.interpreter import run as interpret
from ..ir.text import clone
from ..ir.turns import calls_in
from ..ir.types import LIMITS
from .base import Context

Feeds = Mapping[str, np.ndarray]
METHODS = ("min-max", "percentile", "mse")
MEMORY = 2**28  # bytes of activations that one run of the graph may return


@dataclass
class Histogram:
    """Counts of a value's numbers in 8,192 equal bins over [-reach, reach), and its smallest and largest number.

    `reach` is a power of two; when a number lies outside, neighbouring bins are merged until it fits, so the result
    does not depend on the order of the samples, and nothing but counts is kept. Infinities (masks) are left out.
    """

    bins: int = 8192
    low: float = float("inf")
    high: float = float("-inf")
    reach: float = 2.0**-40
    counts: np.ndarray = field(default_factory=lambda: np.zeros(8192, np.int64))

    def add(self, x: np.ndarray) -> None:
        """Count the numbers of `x`."""
        low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
        if not (np.isfinite(low) and np.isfinite(high)):
            if np.isnan(low):
                raise ValueError("not a number")
            return self.add(x[np.isfinite(x)])
        if not x.size:
            return None
        self.low, self.high = min(self.low, low), max(self.high, high)
        while max(-low, high) >= self.reach:
            half = self.bins // 2
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.zeros(self.bins, np.int64)
            self.counts[half // 2 : half // 2 + half] = merged
            self.reach *= 2
        at = np.floor(x.reshape(-1).astype(np.float32) * np.float32(self.bins / 2 / self.reach)).astype(np.int32)
        at = np.clip(at + self.bins // 2, 0, self.bins - 1)
        self.counts += np.bincount(at, minlength=self.bins)

    @property
    def width(self) -> float:
        return 2 * self.reach / self.bins

    def range(self, method: str = "min-max", percentile: float = 99.99) -> tuple[float, float]:
        """The range to represent: everything seen, all but the outermost numbers, or what costs the least error.

        `percentile` is the share of numbers inside, in percent, the rest split between both ends. "mse" weighs what is
        clipped against the coarser grid of a larger range, at 256 levels (Banner et al. 2019, by search).
        """
        if self.low > self.high or self.low == self.high == 0:
            return 0.0, 0.0
        if method == "min-max":
            return self.low, self.high
        return self._percentile(percentile) if method == "percentile" else self._least_error()

    def _percentile(self, percentile: float) -> tuple[float, float]:
        share = np.cumsum(self.counts) / self.counts.sum()
        rest = (1 - percentile / 100) / 2
        first = int(np.searchsorted(share, rest, side="right"))
        last = int(np.searchsorted(share, 1 - rest, side="left"))
        low, high = first * self.width - self.reach, (last + 1) * self.width - self.reach
        return max(low, self.low), min(high, self.high)

    def _least_error(self) -> tuple[float, float]:
        used = np.flatnonzero(self.counts)
        centres, counts = (used + 0.5) * self.width - self.reach, self.counts[used]
        low, high = min(self.low, 0.0), max(self.high, 0.0)

        def error(low: float, high: float) -> float:
            step = (high - low) / 255 or 1.0
            shown = np.rint((np.clip(centres, low, high) - low) / step) * step + low
            return float((counts * (shown - centres) ** 2).sum())

        for _ in range(2):  # one end at a time, twice round
            high = min((high * f for f in np.linspace(1, 0.1, 46)), key=lambda h: error(low, h)) if high else high
            low = min((low * f for f in np.linspace(1, 0.1, 46)), key=lambda v: error(v, high)) if low else low
        return low, high


@dataclass(frozen=True)
class Grid:
    """An 8-bit grid: real = scale * (stored - zero_point)."""

    dtype: str
    scale: float
    zero_point: int


def grid(low: float, high: float, dtype: str = "i8", symmetric: bool = False) -> Grid:
    """The grid of `dtype` that covers [low, high] and holds 0 exactly."""
    least, most = LIMITS[dtype]
    low, high, middle = min(low, 0.0), max(high, 0.0), (least + most + 1) // 2
    if low == high:
        return Grid(dtype, 1.0, middle if symmetric else least)
    if symmetric:
        return Grid(dtype, _single(max(-low, high) / (most - middle)), middle)
    scale = _single((high - low) / (most - least))
    return Grid(dtype, scale, int(np.clip(np.rint(least - low / scale), least, most)))


def _single(scale: float) -> float:
    """The scale as files store it, in float32, never 0."""
    return float(max(np.float32(scale), np.finfo(np.float32).tiny))


def observe(
    graph: Graph, values: Sequence[Value], context: Context, samples: Sequence[Feeds] | None = None
) -> dict[int, Histogram]:
    """Histograms of `values` (results and inputs of `graph`) over `samples` (the context's), by id of the value.

    With a fast executor the graph runs once a sample and group of values, as a copy that returns them; a group's
    activations take at most `MEMORY` bytes. Without one the interpreter hands every result over as it is computed.
    A sample of several calls shows what the graph meets in all of them.
    """
    samples = context.samples if samples is None else samples
    if not samples:
        raise UsageError(
            "SC024",
            "static quantization needs samples to calibrate with",
            hints=["--calibrate DIR", "without samples, activations are quantized at run time: mode=\"dynamic\""],
        )  # fmt: skip
    found = {id(v): Histogram() for v in values}

    def add(v: Value, array: np.ndarray) -> None:
        try:
            found[id(v)].add(array)
        except ValueError:
            where = [str(v.op.loc)] if v.op is not None else [f"input {v.name}"]
            raise NumericalError("SC512", "a calibration sample gives NaN here", where=where) from None

    inputs = [v for v in values if v.kind == "input"]
    results = [v for v in values if v.kind == "result"]
    for sample in samples:
        for feeds in calls_in(sample):
            for v in inputs:
                add(v, feeds[v.name])
    if context.executor is None:
        _watch(graph, results, samples, add)
    else:
        for part in _groups(graph, results, samples):
            copy = returning(graph, part)
            for feeds in samples:
                for v, array in zip(part, context.run(copy, feeds), strict=True):
                    add(v, array)
    return found


def channel_peaks(graph: Graph, values: Sequence[Value], context: Context) -> list[np.ndarray]:
    """The largest magnitude of every feature (the last axis) of `values` over the context's samples."""
    peaks = [np.zeros(v.type.sizes[-1], np.float32) for v in values]
    groups, start = _groups(graph, list(values), context.samples) if values else [], 0
    for part in groups:
        copy = returning(graph, part)
        for feeds in context.samples:
            for i, array in enumerate(context.run(copy, feeds), start):
                peaks[i] = np.maximum(peaks[i], np.abs(array.reshape(-1, array.shape[-1])).max(0, initial=0))
        start += len(part)
    return peaks


def _watch(graph: Graph, results: list[Value], samples: Sequence[Feeds], add) -> None:
    wanted = {id(v) for v in results}

    def watch(op: Op, arrays: tuple[np.ndarray, ...]) -> None:
        for v, array in zip(op.results, arrays):
            if id(v) in wanted:
                add(v, array)

    for sample in samples:
        states = initial_states(graph)
        for feeds in calls_in(sample):
            interpret(graph, feeds, states, watch)


def _groups(graph: Graph, results: list[Value], samples: Sequence[Feeds]) -> list[list[Value]]:
    """The values in runs that fit into `MEMORY` for the largest sample."""
    sizes = max((bind_sizes(graph, feeds) for feeds in samples), key=lambda s: sum(s.values()))
    calls = max(len(calls_in(feeds)) for feeds in samples)
    groups: list[list[Value]] = []
    room = 0
    for v in results:
        needed = 4 * calls * int(np.prod([evaluate(s, sizes) for s in v.type.sizes], dtype=np.int64))
        if not groups or needed > room:
            groups.append([])
            room = MEMORY
        groups[-1].append(v)
        room -= needed
    return groups


def returning(graph: Graph, values: list[Value]) -> Graph:
    """A copy of `graph` that returns `values` instead of its outputs, without the ops that they do not need."""
    copy = clone(Module({graph.name: graph}, graph.weights)).main
    twin = {id(r): s for op, other in zip(graph.ops, copy.ops) for r, s in zip(op.results, other.results)}
    copy.outputs, copy.output_names = [], []
    for i, v in enumerate(values):
        copy.output(twin[id(v)], f"value{i}")
    copy.sweep()
    return copy

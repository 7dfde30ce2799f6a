"""What is added to the scores of attention, for the window of one step: tables of distances, relative positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.graph import Op, Value
from ...ir.registry import definition
from ...ir.types import Dim
from .band import Band, ticks_for
from .facts import Const, Coord, Score, Stream, refuse
from .probe import NEVER, Probe
from .step import Step

MOVES = ("pad", "reshape", "slice", "transpose", "concat", "gather_elements", "retime", "expand")


@dataclass(frozen=True)
class Window:
    """The queries of a step and the keys in front of them: query q is frame k·b - delay + q, key w is w - q + `first`
    frames from it."""

    step: Step
    op: Op
    band: Band
    frames: int
    delay: int
    late: int
    past: int
    keys: Dim
    queries: Stream

    @property
    def first(self) -> int:
        """The distance from query 0 to key 0."""
        return self.delay - self.late - self.past

    @property
    def rank(self) -> int:
        """Dimensions of the scores."""
        return self.queries.value.type.rank

    def phase(self) -> Value:
        """Which of the band's phases this step is, i32[streams]."""
        phases = self.band.phases(self.frames)
        clock = self.step.clock
        return clock._once(("phase", phases), lambda: clock.b.mod(clock.steps(period=phases), clock.int(phases)))

    def of_phase(self, table: np.ndarray, what: str) -> Value:
        """The row of a table [phases, …, queries, keys] for this step, laid out as scores are."""
        step, rank = self.step, self.rank
        name = f"{self.op.loc.path or 'attention'}.{what}"
        table = table.reshape(len(table), *(1,) * (rank + 1 - table.ndim), *table.shape[1:])
        if step.streams > 1:
            return self._of_streams(table, name)
        if len(table) == 1:
            return step.graph.weight(name, np.ascontiguousarray(table[0]))
        picked = step.b.gather(step.graph.weight(name, np.ascontiguousarray(table)), self.phase(), axis=0)
        return step.b.reshape(picked, shape=table.shape[1:])

    def _of_streams(self, table: np.ndarray, name: str) -> Value:
        """`of_phase` for a batch, whose streams may each be in another phase."""
        step, b = self.step, self.step.b
        if self.queries.batch is None:
            self._unknown()
        at, rows = self.queries.batch
        inner, held = list(table.shape[1:]), table.shape[1 + at]
        if held == rows * step.streams and held > 1:  # the same for every stream
            table = table.take(range(rows), 1 + at)
        elif held != 1:
            self._unknown()
        own = table.shape[1 + at]
        if len(table) == 1:
            table = np.concatenate([table[0]] * (step.streams if own > 1 else 1), at)
            return step.graph.weight(name, np.ascontiguousarray(table))
        if any(s != 1 for s in inner[:at]):
            self._unknown()
        picked = b.gather(step.graph.weight(name, np.ascontiguousarray(table)), self.phase(), axis=0)
        rest = tuple(inner[at + 1 :])
        if own != rows:
            picked = b.expand(b.reshape(picked, shape=(step.streams, 1, *rest)), shape=(step.streams, rows, *rest))
        return b.reshape(picked, shape=(*inner[:at], step.streams * rows, *rest))

    def _unknown(self) -> None:
        raise refuse("SC214", "the batch cannot be followed to its scores", self.op,
                     "compile for one stream, without --batch")  # fmt: skip

    def visible(self) -> Value:
        """Which keys each query sees in this step, bool."""
        step = self.step
        real = step.clock.real(self.keys, front=True, behind=True)
        shown = step.shaped(real, self.rank, self.rank - 1, self.queries.batch)
        table = self.band.window(self.frames, self.delay, self.late, self.past)
        if table.all():
            return shown
        return step.b.logical_and(shown, self.of_phase(table, "band"))


def biased(window: Window, mask: Value) -> Value | None:
    """What an added mask adds where it lets a query see; None where that is nothing."""
    fact = window.step.fact(mask)
    if isinstance(fact, Coord | Const):
        table = _table(window, mask)
        return None if not table.any() else window.of_phase(table, "bias")
    return _score(window, mask)


def _score(window: Window, v: Value) -> Value:
    """A value over queries and keys, for the window of a step."""
    step, fact = window.step, window.step.fact(v)
    if isinstance(fact, Const):
        if any(s != 1 for s in v.type.sizes[-2:]):
            raise refuse("SC204", f"{v} is added to its scores, and has a size of its own along time", window.op)
        return fact.value
    if isinstance(fact, Coord):
        return window.of_phase(_table(window, v), v.op.kind)
    if isinstance(fact, Stream):
        raise refuse("SC204", "a stream is added to its scores", window.op)
    if v.op.kind in MOVES or v.op.kind in ("matmul", "linear"):
        return relative(window, v)
    if definition(v.op.kind).family != "pointwise":
        raise refuse("SC204", f"scores go through {v.op.kind}", window.op)
    return step.b.emit(v.op.kind, [_score(window, o) for o in v.op.operands], step.sizes.attr_map(v.op))


def _table(window: Window, v: Value) -> np.ndarray:
    """[phases, …, queries, keys] of a value that depends on positions alone: of the phase and the distance."""
    band, step = window.band, window.step
    span = max(band.high, 0) - min(band.low, 0) + 2 * band.period + window.frames
    probe = Probe(step, ticks_for(window.queries.time.rate, 2 * span + 8))
    array = probe.array(v)
    n = probe.shape(window.op.operands[0])[-2]
    array = np.broadcast_to(array, (*array.shape[:-2], n, n) if array.ndim >= 2 else (n, n))
    i, j = np.indices((n, n))
    allowed = band.allowed(i, j - i)
    base = -(-max(-band.low, 0) // band.period) * band.period
    shown = band.window(window.frames, window.delay, window.late, window.past)
    phase = np.arange(len(shown))[:, None, None]
    q, w = np.arange(window.frames)[None, :, None], np.arange(window.past + window.frames)[None, None, :]
    row = base + (phase * window.frames - window.delay + q) % band.period
    column = row + window.first + w - q
    picked = array[..., np.broadcast_to(row, shown.shape), np.clip(column, 0, n - 1)]
    # The same numbers must stand at every other place of the period.
    place = base + i % band.period
    expected = array[..., place, np.clip(place + j - i, 0, n - 1)]
    fits = (place + j - i >= 0) & (place + j - i < n) & allowed
    if not np.array_equal(np.where(fits, array, 0), np.where(fits, expected, 0)):
        raise refuse("SC204", "what is added to its scores is no function of the distance", window.op)
    picked = np.where(shown, picked, np.zeros((), array.dtype))
    if array.dtype != bool:
        picked = np.where(picked <= NEVER, np.zeros((), array.dtype), picked)
    return np.moveaxis(picked, -3, 0)


def relative(window: Window, v: Value) -> Value:
    """Products of queries and a table of distances, moved so that each stands at its distance (Dai et al. 2019).

    Where every element goes is found by moving their numbers: element (i, j) must come from row i, and from a column
    that depends on j - i alone.
    """
    step, product = window.step, _product(window, v)
    q, table = product.op.operands
    fact = step.fact(q)
    if not isinstance(fact, Stream) or not isinstance(step.fact(table), Coord | Const) or product.op.kind != "matmul":
        raise refuse("SC204", "what is added to its scores is no product of queries and positions", window.op)
    width = window.past + 2 * window.frames - 1
    distances = window.first - (window.frames - 1) + np.arange(width)
    columns = _columns(window, v, product, table, distances)
    name = f"{window.op.loc.path or 'attention'}.distances"
    rows = step.delayed(step.plain(fact), window.delay)
    r = step.b.matmul(rows.value, step.graph.weight(name, np.ascontiguousarray(columns)))
    return _skewed(step, r, window.frames, window.past + window.frames)


def _product(window: Window, v: Value) -> Value:
    """The product at the start of a chain of moves."""
    while v.op is not None and v.op.kind in MOVES:
        inner = [o for o in v.op.operands if o is not None and isinstance(window.step.fact(o), Score)]
        if len(inner) != 1:
            raise refuse("SC204", "scores are moved in a way that is not understood", window.op)
        v = inner[0]
    if v.op is None or v.op.kind != "matmul":
        raise refuse("SC204", "what is added to its scores is no product of queries and positions", window.op)
    return v


def _columns(window: Window, v: Value, product: Value, table: Value, distances: np.ndarray) -> np.ndarray:
    """The columns of the table at some distances, the same at two lengths."""
    found = []
    span = 2 * int(np.abs(distances).max()) + 8
    for frames in (span, span + window.band.period + 5):
        probe = Probe(window.step, ticks_for(window.queries.time.rate, frames))
        shape = probe.shape(product)
        rows, width = shape[-2:]
        codes = 1 + np.broadcast_to(np.arange(rows * width).reshape(rows, width), shape)
        moved = probe.moved(v, product, codes)
        n = moved.shape[-1]
        i, j = np.indices((n, n))
        came, column = np.divmod(moved - 1, width)
        inside = window.band.allowed(i, j - i)
        start = column[..., n // 2, n // 2].flat[0]
        if np.any(inside & ((came != i) | (column != j - i + start))):
            raise refuse("SC204", "what is added to its scores does not depend on the distance alone", window.op)
        numbers = probe.array(table)
        at = start + distances
        known = (at >= 0) & (at < width) & (distances >= window.band.low) & (distances <= window.band.high)
        picked = np.take(numbers, np.clip(at, 0, width - 1), axis=-1)
        found.append(np.where(known, picked, np.zeros((), numbers.dtype)))
    scale = max(np.abs(found[0]).max(), 1e-30)
    if np.abs(found[0] - found[1]).max() > 1e-5 * scale:
        raise refuse("SC204", "its table of distances changes with the length", window.op)
    return found[0]


def _skewed(step: Step, r: Value, queries: int, keys: int) -> Value:
    """out[q, w] = r[q, w - q + queries - 1], by reading r in rows that are one shorter."""
    if queries == 1:
        return r
    *lead, _, width = r.type.sizes
    rank = r.type.rank
    for axis, d in enumerate(r.type.shape):
        if d.time is not None:
            r = step.b.retime(r, axis=axis, to=Dim(d.size))
    flat = step.b.reshape(r, shape=(*lead, queries * width))
    start = queries - 1
    flat = step.b.slice(flat, axis=rank - 2, start=start, stop=start + queries * (width - 1))
    return step.b.slice(step.b.reshape(flat, shape=(*lead, queries, width - 1)), axis=rank - 1, start=0, stop=keys)

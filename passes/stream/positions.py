"""Values that depend on a frame's number alone: position tables, counts, rotary angles; made anew in every step.

A generator is never delayed or cut: its counter starts where its reader stands.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir.expr import Size, evaluate, same, slope, substitute, symbols
from ...ir.graph import Op, Value
from ...ir.types import Dim, Time
from .band import ticks_for
from .facts import Const, Coord, Stream, growing, refuse
from .probe import Probe
from .rules import load
from .step import Step

LENGTHS = (9, 160, 5120)  # frames at which positions are run to see what they count


def generated(step: Step, v: Value, at: Time, beside: Value, count: int | None = None) -> Value:
    """The frames of a coordinate that stand beside a stream of time `at` (`count` of them, else a step's).

    `beside` is the value of the offline graph that its reader makes: where the streams of a batch each stand at their
    own place, the coordinate takes the batch from it.
    """
    count = step.frames(at) if count is None else count
    if step.streams == 1:
        return _Maker(step, at, count).make(v, 0)
    return _by_stream(step, v, at, beside, count)


def _by_stream(step: Step, v: Value, at: Time, beside: Value, count: int) -> Value:
    """Made for the frames of all streams one behind the other, as if they were one long stream; then taken apart."""
    maker, b, batch = _Maker(step, at, count), step.b, step.batch_of(beside)
    times, new = maker.times(v), maker.make(v, 0)
    if not times:
        return new
    if batch is None or len(times) != 1:
        raise refuse("SC214", "positions of several streams of a batch differ, and it is not known where they go",
                     step.op, "compile for one stream, without --batch")  # fmt: skip
    (axis,), more = times, beside.type.rank - v.type.rank
    shape = [*(1,) * more, *new.type.sizes]
    axis, (place, rows) = axis + more, batch
    if axis == place or shape[place] not in (1, rows):
        raise refuse("SC214", "the batch cannot be followed to its positions", step.op,
                     "compile for one stream, without --batch")  # fmt: skip
    apart = [*shape[:axis], step.streams, count, *shape[axis + 1 :]]
    new = b.reshape(new, shape=tuple(apart))
    perm = [i for i in range(len(apart)) if i != axis]
    perm.insert(place, axis)
    if perm != sorted(perm):
        new = b.transpose(new, perm=tuple(perm))
    if shape[place] != rows:
        new = b.expand(new, shape=tuple(rows if i == place + 1 else s for i, s in enumerate(new.type.sizes)))
    shape[axis], shape[place] = count, step.streams * rows
    return step.retimed(b.reshape(new, shape=tuple(shape)), axis, at)


def _line(array: np.ndarray, times: list[int]) -> tuple | None:
    """(a, b) of an array that is a + b · i at index i along its only time dimension; None where it is not."""
    if len(times) != 1 or array.dtype == bool or array.shape[times[0]] < 2:
        return None
    rows = np.moveaxis(array, times[0], -1).reshape(-1, array.shape[times[0]])
    start, every = rows[0, 0], rows[0, 1] - rows[0, 0]
    if not np.array_equal(rows, np.broadcast_to(start + every * np.arange(rows.shape[1]), rows.shape)):
        return None
    return start.item(), every.item()


class _Maker:
    """Builds a coordinate's ops for the frames of one chunk; for a batch, for those of all its streams in a row."""

    def __init__(self, step: Step, at: Time, count: int):
        self.step, self.at = step, at
        self.count = count * step.streams
        self.frames = count
        self.constants = {**step.sizes.constants, "batch": 1}
        self.made: dict[tuple[int, int], Value] = {}

    def make(self, v: Value, shift: int) -> Value:
        """`v` at the frames of the chunk, `shift` further on."""
        fact = self.step.fact(v)
        if isinstance(fact, Const) and (self.step.streams == 1 or self.step.batch_of(v) is None):
            return fact.value
        key = (id(v), shift)
        if key not in self.made:
            self.made[key] = self._timed(v, self._build(v, shift))
        return self.made[key]

    def _timed(self, old: Value, new: Value) -> Value:
        if self.step.streams > 1:  # frames of several streams in a row are no stream
            return new
        for axis, d in enumerate(new.type.shape):  # in steps of one frame time looks like any other dimension
            if d.time is not None and axis not in self.times(old):
                new = self.step.b.retime(new, axis=axis, to=Dim(d.size))
        for axis in self.times(old):
            new = self.step.retimed(new, axis, self.at)
        return new

    def times(self, v: Value) -> list[int]:
        """The dimensions that follow the reader's stream: as fast, whatever a crop has taken."""
        return [i for i in growing(v.type) if self._follows(self.step.length(v, i))]

    def _follows(self, size: Size) -> bool:
        return not isinstance(size, int) and symbols(size) == {self.step.sizes.symbol} and slope(size) == self.at.rate

    def _build(self, v: Value, shift: int) -> Value:
        op, b = v.op, self.step.b
        if op is None:
            raise refuse("SC206", f"it stands beside {v}, which has no time", self.step.op)
        if op.kind == "iota":
            self._beside(v)
            return self._numbers(op.attrs["dtype"], shift)
        if op.kind == "size":
            raise refuse("SC206", f"its value depends on the length {op.attrs['of']} of the utterance", op)
        if op.kind == "slice" and self.times(v) == [op.attrs["axis"]]:
            return self._slice(op, shift)
        if op.kind == "overlap_add" and self.times(op.result) == [op.result.type.rank - 1]:
            return self._overlapped(op, shift)
        if op.kind in ("pad", "concat", "flip", "cumsum", "cummax", "conv", "reshape") and not self._framewise(op):
            return self._counted(v, shift)
        operands = [None if o is None else self.make(o, shift) for o in op.operands]
        if op.kind in ("gather", "gather_elements") and self.times(op.operands[1]):
            operands[1] = self._within(op, *operands)
        attrs = {name: self._attr(value) for name, value in op.attrs.items()}
        made = b.emit(op.kind, operands, attrs)
        return made if not isinstance(made, tuple) else made[v.index]

    def _overlapped(self, op: Op, shift: int) -> Value:
        """Frames laid over one another (the envelope of an inverse STFT): a stream, at the delay of its reader."""
        step, (frames,), hop = self.step, op.operands, op.attrs["hop"]
        axis, delay = frames.type.rank - 2, self.at.delay - shift
        length = step.length(frames, axis)
        late = max(0, -evaluate(length, {step.sizes.symbol: 0}))  # until then it is not known which frames there are
        if step.streams > 1 or delay < late * hop:
            raise refuse("SC206", "it lays frames over one another that depend on the length", op)
        at = Time(self.at.clock, self.at.rate / hop, late, length)
        known, place = step.facts[id(frames)], step.op
        step.facts[id(frames)], step.op = Stream(generated(step, frames, at, frames)), op
        try:
            made = load()[op.kind](step, op)
        finally:
            step.facts[id(frames)], step.op = known, place
        return step.delayed(made, delay).value

    def _framewise(self, op: Op) -> bool:
        if op.kind in ("concat", "flip", "cumsum", "cummax"):
            return op.attrs["axis"] % op.result.type.rank not in self.times(op.result)
        if op.kind == "pad":
            return all(op.attrs["pads"][i] == (0, 0) for i in self.times(op.result))
        if op.kind != "reshape":
            return all(not self.times(o) for o in op.operands if o is not None)
        old, new = (self.times(v) for v in (op.operands[0], op.result))
        return len(old) == len(new) and all(
            same(self.step.length(op.operands[0], i), self.step.length(op.result, j)) for i, j in zip(old, new)
        )

    def _attr(self, value):
        if isinstance(value, tuple):
            return tuple(self._attr(v) for v in value)
        if isinstance(value, Dim):
            size = self._attr(value.size)
            return value if size == value.size else Dim(size, self.at if self.step.streams == 1 else None)
        if isinstance(value, int | float | str | bool | None):
            return value
        value = substitute(value, self.constants)
        return self.count if self._follows(value) else self.step.sizes.size(value)

    def _counted(self, v: Value, shift: int) -> Value:
        """`v` where it only counts frames, however it is computed: start + frame · every, the same at each length."""
        shown = {_line(Probe(self.step, ticks_for(self.at.rate, n)).array(v), self.times(v)) for n in LENGTHS}
        if len(shown) > 1 or None in shown:
            raise refuse("SC202", "positions are computed frame by frame, not across frames", v.op)
        ((start, every),), ((axis,), b) = shown, (self.times(v), self.step.b)
        constant = lambda number: b.const(number, v.type.dtype)
        made = b.add(b.mul(self._numbers(v.type.dtype, shift), constant(every)), constant(start))
        sizes = tuple(self._attr(s) for s in v.type.sizes)
        made = b.reshape(made, shape=tuple(self.count if i == axis else 1 for i in range(len(sizes))))
        return made if made.type.sizes == sizes else b.expand(made, shape=sizes)

    def _within(self, op: Op, table: Value, index: Value) -> Value:
        """`index`, inside the table at frames that are not real as well."""
        most, b = table.type.sizes[op.attrs["axis"]], self.step.b
        least = Probe(self.step, ticks_for(self.at.rate, 1)).array(op.operands[1]).min(initial=0)
        low = b.const(0 if least >= 0 else -most, index.type.dtype)
        return b.minimum(b.maximum(index, low), b.const(most - 1, index.type.dtype))

    def _beside(self, v: Value) -> None:
        if not self.times(v):
            raise refuse("SC206", f"{v} does not follow the stream that it stands beside", self.step.op)

    def _numbers(self, dtype: str, shift: int) -> Value:
        """The numbers of the frames, [frames]."""
        step = self.step
        numbers = step.clock.frames(replace(self.at, delay=self.at.delay - shift), self.frames, true=True)
        if step.streams > 1:
            numbers = step.b.reshape(numbers, shape=(self.count,))
        return step.b.cast(numbers, dtype=dtype) if dtype != "i32" else numbers

    def _slice(self, op: Op, shift: int) -> Value:
        """A crop of a longer generator, or the first frames of a table."""
        (x,), a = op.operands, op.attrs
        if not isinstance(a["start"], int) or a["step"] != 1:
            raise refuse("SC206", f"it starts at {a['start']}, which the length decides", op)
        fact = self.step.fact(x)
        if isinstance(fact, Coord) and self.times(x):
            return self.make(x, shift + a["start"])
        if not isinstance(fact, Const):
            raise refuse("SC206", "a table that depends on the length in another way", op)
        return self._table(op, fact.value, shift + a["start"])

    def _table(self, op: Op, table: Value, shift: int) -> Value:
        """Rows of a table, which bounds the stream."""
        axis, most = op.attrs["axis"], table.type.sizes[op.attrs["axis"]]
        clock, b = self.step.clock, self.step.b
        numbers = self._numbers("i32", shift)
        self.step.notes.append((f"the stream may have {most - shift} frames: the table of positions ends there", op))
        index = b.minimum(b.maximum(numbers, clock.int(0)), clock.int(most - 1))
        return b.gather(table, index, axis=axis)

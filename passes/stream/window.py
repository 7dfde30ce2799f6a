"""Ops that slide a window along time: convolutions, pools, framing, and pads that nobody slides over.

With reach K = (k - 1)·dilation + 1, stride s and pl frames of padding in front, a stream that is d frames late makes
that is d' = max(0, ⌈(d + K - s - pl) / s⌉) late, and d'·s + pl - d frames of the past stand in front of a chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from ...ir.errors import UnsupportedError
from ...ir.graph import Op, Value
from ...ir.types import Dim, Time
from .facts import Pads, Stream, refuse
from .rules import rule
from .step import Step, static_pads

CHUNKED = "conv-context"  # the pass that makes convolutions see chunks alone


@dataclass(frozen=True)
class Window:
    """How a window moves: `reach` frames from its first to its last, `stride` frames a time."""

    reach: int
    stride: int


def look_ahead(w: Window, pads: Pads) -> int:
    """Frames from the first of a window to the last real one that it needs, itself included, at the worst place."""
    inside = w.reach - pads.front
    if pads.front and pads.mode == "reflect":
        return max(inside, pads.front + 1)  # the first window reads x[pl]
    if pads.front and pads.mode == "edge":
        return max(inside, 1)
    return inside


def delay_of(w: Window, pads: Pads, delay: int) -> int:
    """The least delay of what a window makes of a stream that is `delay` late."""
    return max(0, math.ceil((delay + look_ahead(w, pads) - w.stride) / w.stride))


def past_of(w: Window, pads: Pads, delay: int) -> int:
    """Frames of the past that stand in front of a chunk (negative: the chunk's first frames are not needed)."""
    return delay_of(w, pads, delay) * w.stride + pads.front - delay


def uneven(step: Step, op: Op, time: Time, every: int) -> UnsupportedError:
    """The error where a step holds no whole number of windows, `every` frames apart."""
    fits = (Fraction(every) / time.rate).numerator
    held = f"a step of {step.sizes.chunk} input frames holds {step.frames(time)} frames of it, no multiple of {every}"
    return refuse("SC200", held, op, f"--stream with a multiple of {fits} input frames", *by_chunk(op))


def by_chunk(op: Op) -> list[str]:
    """What else may be done about a step that does not fit: where a rewrite made the chunks, other chunks."""
    return ["--conv chunk:DUR with a chunk that divides the step"] if CHUNKED in op.loc.passes else []


def windowed(step: Step, x: Stream, w: Window, pads: Pads) -> Value:
    """The frames that the windows of one step see, padded where they must be: a window op without pads goes over it."""
    axis, frames = x.axis, step.frames(x.time)
    past, made = past_of(w, pads, x.time.delay), frames // w.stride
    if frames % w.stride:
        raise uneven(step, step.op, x.time, w.stride)
    if pads.mode == "constant":
        x = padding_masked(step, x, pads)
        seen = step.history(x, max(past, 0), "history", pads.fill, pads.front, pads.behind)
    else:
        seen = mirrored(step, x, w, pads, past)
    start = max(-past, 0)
    return step.piece(seen, axis, start, start + (made - 1) * w.stride + w.reach)


def padding_masked(step: Step, x: Stream, pads: Pads) -> Stream:
    """x with the frames that stand for padding replaced by it (the states of a stream on time start with it)."""
    return step.masked(x, pads.fill, pads.front > 0 and x.time.delay > 0, pads.adds_behind)


def mirrored(step: Step, x: Stream, w: Window, pads: Pads, past: int) -> Value:
    """The frames behind the ends taken from inside the stream, which the history still holds."""
    b, clock, axis = step.b, step.clock, x.axis
    behind = pads.behind
    if not isinstance(behind, int):
        raise refuse("SC206", f"pads {behind} frames behind, by {pads.mode}", step.op)
    further = max(0, (2 * behind if pads.mode == "reflect" else behind) - w.reach + 1)
    seen = step.history(x, max(past, 0) + further, "history")
    d = seen.type.shape[axis]
    time, last = d.time, d.size - 1
    numbers = clock.frames(time, d.size)  # exact while any of them is below 0
    here = clock.numbers(0, d.size)
    start = clock.frames(time, 1)
    inside = b.maximum(numbers, b.neg(numbers)) if pads.mode == "reflect" else b.maximum(numbers, clock.int(0))
    front = b.where(b.less(numbers, clock.int(0)), b.sub(inside, start), here)
    clock.ask(time, d.size + behind)
    final = b.sub(clock.column(clock.end(time)), clock.int(1))  # the last frame, counted from the step's start
    at = clock.numbers(-time.delay, d.size)
    back = b.sub(b.mul(final, clock.int(2)), at) if pads.mode == "reflect" else b.minimum(final, at)
    index = b.where(b.less(final, at), b.add(back, clock.int(time.delay)), front)
    index = b.minimum(b.maximum(index, clock.int(0)), clock.int(last))
    taken = taken_along(step, seen, index, axis, x)
    padded = replace(time, delay=time.delay - pads.front, length=time.length + pads.front + behind)
    return step.piece(step.retimed(taken, axis, padded), axis, further, d.size)


def taken_along(step: Step, v: Value, index: Value, axis: int, x: Stream) -> Value:
    """v's elements along `axis` as `index` ([frames], or [streams, frames]) says."""
    if index.type.rank == 1:
        return step.b.gather(v, index, axis=axis)
    shown = step.shaped(index, v.type.rank, axis, x.batch)
    return step.b.gather_elements(v, step.b.expand(shown, shape=v.type.sizes), axis=axis)


def along_time(step: Step, op: Op, x: Stream) -> int | None:
    """Which of the op's spatial dimensions is time; None where it is the batch."""
    rank, axis = x.value.type.rank, x.axis
    first = 1 if op.attrs["channel_last"] else 2
    if axis == 0:
        return None
    if not first <= axis < first + rank - 2:
        raise refuse("SC203", "time is the dimension of its channels", op)
    return axis - first


def own_pads(op: Op, at: int, fill: float) -> Pads:
    """The padding that a window op does itself along spatial dimension `at`."""
    return Pads(*static_pads(op.attrs["pad"][at], op), fill=fill)


def merged(step: Step, x: Stream, own: Pads) -> tuple[Stream, Pads]:
    """Pads that wait on a stream and those of its reader as one, where they agree; else the stream's are put in."""
    if x.pads is None:
        return x, own
    bare = replace(x, pads=None)
    if (own.front, own.behind) == (0, 0):
        return bare, x.pads
    together = x.pads.adds_behind or own.behind == 0
    if together and x.pads.mode == own.mode == "constant" and x.pads.fill == own.fill:
        return bare, Pads(x.pads.front + own.front, x.pads.behind + own.behind, fill=own.fill)
    return padded(step, x), own


def padded(step: Step, x: Stream) -> Stream:
    """A stream with its waiting pads put in: a window of one frame that moves over them."""
    bare, one = replace(x, pads=None), Window(1, 1)
    return step.known(replace(bare, value=windowed(step, bare, one, x.pads)))


def unpadded(op: Op, at: int, **changes) -> dict:
    """The op's attributes without padding along spatial dimension `at`."""
    pads = tuple((0, 0) if i == at else p for i, p in enumerate(op.attrs["pad"]))
    return {**op.attrs, "pad": pads, **changes}


def rolled(step: Step, op: Op, kernel: int, fill: float) -> tuple[int, Stream, Value, Pads] | None:
    """What a window op along time needs: (its dimension, the stream, the frames to go over, the pads)."""
    x = step.fact(op.operands[0])
    at = along_time(step, op, x)
    if at is None:
        return None
    dilation = op.attrs.get("dilation", (1,) * len(op.attrs["stride"]))[at]
    w = Window((kernel - 1) * dilation + 1, op.attrs["stride"][at])
    bare, pads = merged(step, x, own_pads(op, at, fill))
    return at, bare, windowed(step, bare, w, pads), pads


@rule("conv")
def _(step: Step, op: Op) -> Stream:
    x = step.fact(op.operands[0])
    others = [step.fact(v).value if v is not None else None for v in op.operands[1:]]
    at = along_time(step, op, x)
    if at is None:
        return step.stream(op.result, step.b.emit("conv", (step.plain(x).value, *others), step.sizes.attr_map(op)))
    at, _, seen, _ = rolled(step, op, op.operands[1].type.sizes[2 + at], 0.0)
    return step.stream(op.result, step.b.emit("conv", (seen, *others), unpadded(op, at)))


@rule("max_pool")
def _(step: Step, op: Op) -> Stream:
    return _pooled(step, op, step.least(step.fact(op.operands[0]).value))


def _pooled(step: Step, op: Op, fill: float) -> Stream:
    x = step.fact(op.operands[0])
    at = along_time(step, op, x)
    if at is None:
        return step.stream(op.result, step.b.emit(op.kind, (step.plain(x).value,), step.sizes.attr_map(op)))
    at, _, seen, _ = rolled(step, op, op.attrs["kernel"][at], fill)
    return step.stream(op.result, step.b.emit(op.kind, (seen,), unpadded(op, at)))


@rule("avg_pool")
def _(step: Step, op: Op) -> Stream:
    x = step.fact(op.operands[0])
    at = along_time(step, op, x)
    if at is None or op.attrs["count_pad"] or op.attrs["pad"][at] == (0, 0):
        return _pooled(step, op, 0.0)
    return _counted(step, op, at)


def _counted(step: Step, op: Op, at: int) -> Stream:
    """A mean over the real frames of each window: the mean with zeros, over the share of frames that are real."""
    b, found = step.b, step.fact(op.operands[0])
    x = step.plain(found)  # frames of another pad count as real ones
    counted = replace(x, value=_ones(step, x))
    made = []
    for stream in (x, counted):
        step.facts[id(op.operands[0])] = stream
        at, bare, seen, _ = rolled(step, op, op.attrs["kernel"][at], 0.0)
        made.append(b.emit("avg_pool", (seen,), unpadded(op, at, count_pad=True)))
    step.facts[id(op.operands[0])] = found
    total, share = made
    share = b.where(b.less(b.const(0, share.type.dtype), share), share, b.const(1, share.type.dtype))
    return step.stream(op.result, b.div(total, share))


def _ones(step: Step, x: Stream) -> Value:
    """A stream of ones as large as x, along time and the dimensions that a pool may pad."""
    v = x.value
    shape = tuple(s if i >= 1 or step.streams > 1 else 1 for i, s in enumerate(v.type.sizes))
    return step.retimed(step.b.expand(step.b.const(1, v.type.dtype), shape=shape), x.axis, x.time)


@rule("frame")
def _(step: Step, op: Op) -> Stream:
    x = step.fact(op.operands[0])
    if x.axis != x.value.type.rank - 1:
        return step.stream(op.result, step.b.emit("frame", (step.plain(x).value,), step.sizes.attr_map(op)))
    bare, pads = merged(step, x, Pads(0, 0))
    size, hop = op.attrs["size"], op.attrs["hop"]
    seen = windowed(step, bare, Window(size, hop), pads)
    if step.frames(x.time) > hop:
        return step.stream(op.result, step.b.frame(seen, size=size, hop=hop))
    # One frame a step: the window itself.
    late = seen.type.shape[-1].time.delay // hop
    time = Time(x.time.clock, x.time.rate / hop, late, step.length(op.result, op.result.type.rank - 2))
    one = step.b.retime(seen, axis=x.axis, to=Dim(size))
    return step.settled(op.result, step.b.reshape(one, shape=(*seen.type.sizes[:-1], 1, size)), x.axis, time)

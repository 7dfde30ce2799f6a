"""Ops that move frames: reshape, transpose, crops, subsampling, pads, and constants before and behind a stream."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from ...ir.errors import IRError
from ...ir.expr import Size, slope
from ...ir.graph import Op, Value
from ...ir.types import Dim, Time
from .facts import Const, Pads, Stream, growing, refuse
from .framewise import BEHIND, framewise
from .rules import rule
from .step import Step
from .window import Window, merged, uneven, windowed


def carrier(step: Step, op: Op) -> int:
    """The dimension of the result that is time."""
    axes = [i for i in growing(op.result.type) if step.length(op.result, i) is not None and _grows(step, op, i)]
    if len(axes) != 1:
        raise refuse("SC206", "time cannot be followed through it", op, why="its result has no dimension that is time")
    return axes[0]


def _grows(step: Step, op: Op, axis: int) -> bool:
    return not isinstance(step.length(op.result, axis), int)


@rule("expand")
def _(step: Step, op: Op) -> Stream:
    return framewise(step, op)


@rule("transpose")
def _(step: Step, op: Op) -> Stream:
    x = step.fact(op.operands[0])
    return step.stream(op.result, step.b.transpose(x.value, perm=op.attrs["perm"]), x.pads)


@rule("reshape")
def _(step: Step, op: Op) -> Stream:
    x, axis = step.fact(op.operands[0]), carrier(step, op)
    if x.pads is not None and slope(step.length(op.result, axis)) != x.time.rate:
        x = step.plain(x)  # frames are stacked or taken apart: the pads must be there
    shape = step.sizes.attr(op.attrs["shape"], op)
    change = Fraction(shape[axis], step.frames(x.time))
    if change.numerator != 1 and change.denominator != 1:
        raise refuse("SC206", f"{change} frames come out for every frame", op)
    x = step.delayed(x, -(-x.time.delay // change.denominator) * change.denominator)
    length = x.time.length if x.pads else step.length(op.result, axis)
    time = Time(x.time.clock, x.time.rate * change, int(x.time.delay * change), length)
    try:
        made = step.b.reshape(x.value, shape=shape)
    except IRError:  # sizes of one step do not show where time goes; those of the whole did
        made = step.b.reshape(step.b.retime(x.value, axis=x.axis, to=Dim(x.dim.size)), shape=shape)
    return step.settled(op.result, made, axis, time, x.pads)


@rule("slice")
def _(step: Step, op: Op) -> Stream:
    x, a = step.fact(op.operands[0]), op.attrs
    if a["axis"] != x.axis:
        return framewise(step, op)
    start, every = a["start"], a["step"]
    if not isinstance(start, int):
        raise refuse("SC206", f"it starts at frame {start}, which the length decides", op, BEHIND)
    if not growing(op.result.type):
        raise refuse("SC206", "it keeps a number of frames that does not grow with the utterance", op, BEHIND)
    whole = step.length(op.result, x.axis)
    if x.pads is not None and every == 1 and (less := _cropped(x, start, whole)) is not None:
        return step.stream(op.result, x.value, less)
    cut = whole - step.length(op.operands[0], x.axis)
    if (start, every, x.pads) == (0, 1, None) and isinstance(cut, int) and _waits(op):
        return step.stream(op.result, x.value, Pads(0, cut))
    x = cropped(step, step.plain(x), start, step.length(op.operands[0], x.axis) - start)
    if every == 1:
        return step.settled(op.result, x.value, x.axis, replace(x.time, length=whole))
    if step.frames(x.time) % every:
        raise uneven(step, op, x.time, every)
    bare = step.b.retime(x.value, axis=x.axis, to=Dim(x.dim.size))  # frames 0, s, 2s, … stand at places delay mod s
    kept = step.b.slice(bare, axis=x.axis, start=x.time.delay % every, stop=x.dim.size, step=every)
    time = Time(x.time.clock, x.time.rate / every, x.time.delay // every, whole)
    return step.settled(op.result, kept, x.axis, time)


def _shifts(front: Size, behind: Size) -> bool:
    """Whether as much is padded in front as is cut off behind: every frame of the result is known in time."""
    return isinstance(front, int) and isinstance(behind, int) and behind < 0 <= front + behind


def _waits(op: Op) -> bool:
    """Whether only constants put in front read what is left of a crop: x[:-1] behind a zero is x, one frame late."""
    return all(u.kind == "concat" and u.operands[-1] is op.result for u in op.result.users) and bool(op.result.users)


def cropped(step: Step, x: Stream, front: int, length: Size) -> Stream:
    """The stream that starts `front` frames later and has `length` frames: nothing is done to its chunks."""
    time = replace(x.time, delay=x.time.delay + front, length=length)
    return replace(x, value=step.retimed(x.value, x.axis, time))


def _cropped(x: Stream, start: int, whole: Size) -> Pads | None:
    """What is left of waiting pads when `start` frames in front and all behind `whole` of them are cut off."""
    behind = whole - (x.time.length + x.pads.front - start)
    if x.pads.mode != "constant" or start > x.pads.front or not isinstance(behind, int) or behind < 0:
        return None
    return replace(x.pads, front=x.pads.front - start, behind=behind)


@rule("pad")
def _(step: Step, op: Op) -> Stream:
    x, pads = step.plain(step.fact(op.operands[0])), list(op.attrs["pads"])
    front, behind = pads[x.axis]
    pads[x.axis] = (0, 0)
    others = x
    if any(p != (0, 0) for p in pads):
        made = step.b.pad(x.value, pads=tuple(pads), mode=op.attrs["mode"], value=op.attrs["value"])
        others = replace(x, value=made)
    if not isinstance(front, int):
        raise refuse("SC206", f"it pads {front} frames in front, which the length decides", op)
    whole = step.length(op.result, x.axis)
    fill, quant = op.attrs["value"], others.value.type.quant
    if quant is not None:  # it pads with a stored number
        fill = (fill - quant.zero_point) * quant.scale
    if op.attrs["mode"] == "constant" and _shifts(front, behind):
        return step.stream(op.result, others.value, Pads(front, behind, fill=fill))
    if front < 0 or (isinstance(behind, int) and behind < 0):
        others = cropped(step, others, max(-front, 0), x.time.length + min(front, 0) + min(behind, 0))
        front, behind = max(front, 0), max(behind, 0)
    if (front, behind) == (0, 0):
        return step.settled(op.result, others.value, x.axis, replace(others.time, length=whole))
    return step.stream(op.result, others.value, Pads(front, behind, op.attrs["mode"], fill))


@rule("concat")
def _(step: Step, op: Op) -> Stream:
    axis, facts = op.attrs["axis"], [step.fact(v) for v in op.operands]
    streams = [i for i, f in enumerate(facts) if isinstance(f, Stream)]
    if facts[streams[0]].axis != axis:
        return framewise(step, op)
    if len(streams) != 1 or not all(isinstance(f, (Const, Stream)) for f in facts):
        raise refuse("SC206", "it joins streams one behind the other", op)
    at = streams[0]
    front, behind = _content(step, op, facts[:at], axis), _content(step, op, facts[at + 1 :], axis)
    size = lambda v: 0 if v is None else v.type.sizes[axis]
    fills = {_uniform(v) for v in (front, behind) if v is not None}
    x = facts[at]
    if len(fills) == 1 and None not in fills:
        (fill,) = fills
        if x.pads is not None and behind is None and x.pads.front == 0 and _shifts(size(front), x.pads.behind):
            return step.stream(op.result, x.value, Pads(size(front), x.pads.behind, fill=fill))
        return step.stream(op.result, step.plain(x).value, Pads(size(front), size(behind), fill=fill))
    return _surrounded(step, op, step.plain(x), front, behind)


def _content(step: Step, op: Op, facts: list[Const], axis: int) -> Value | None:
    """Constants in front of (or behind) a stream, as one value."""
    values = [f.value for f in facts]
    return None if not values else values[0] if len(values) == 1 else step.b.concat(*values, axis=axis)


def _uniform(v: Value) -> float | None:
    """The number that a constant holds everywhere, if it is known and one."""
    from .constants import known_array

    array = known_array(v)
    if array is None or array.size == 0 or not np.all(array == array.flat[0]):
        return None
    return array.flat[0].item()


def _surrounded(step: Step, op: Op, x: Stream, front: Value | None, behind: Value | None) -> Stream:
    """A stream between constants: frames outside it are looked up in them."""
    axis, clock, b = x.axis, step.clock, step.b
    sizes = [0 if v is None else v.type.sizes[axis] for v in (front, behind)]
    bare, pads = merged(step, replace(x, pads=Pads(*sizes)), Pads(0, 0))
    v = windowed(step, bare, Window(1, 1), pads)
    time, count = v.type.shape[axis].time, v.type.sizes[axis]
    own = replace(x.time, delay=time.delay + sizes[0])  # the frames of x in the places of v
    if front is not None:
        numbers = clock.frames(own, count)
        index = b.minimum(b.maximum(b.add(numbers, clock.int(sizes[0])), clock.int(0)), clock.int(sizes[0] - 1))
        v = _chosen(step, x, b.less(numbers, clock.int(0)), front, index, v)
    if behind is not None:
        clock.ask(own, count)
        past = b.sub(clock.numbers(-own.delay, count), clock.column(clock.end(own)))
        index = b.minimum(b.maximum(past, clock.int(0)), clock.int(sizes[1] - 1))
        v = _chosen(step, x, b.less_equal(clock.int(0), past), behind, index, v)
    return step.stream(op.result, step.retimed(v, axis, time))


def _chosen(step: Step, x: Stream, where: Value, table: Value, index: Value, otherwise: Value) -> Value:
    axis, rank = x.axis, otherwise.type.rank
    if index.type.rank == 2:
        table = step.b.expand(
            table, shape=tuple(table.type.sizes[i] if i == axis else s for i, s in enumerate(otherwise.type.sizes))
        )
        shown = step.shaped(index, rank, axis, x.batch)
        looked = step.b.gather_elements(table, step.b.expand(shown, shape=otherwise.type.sizes), axis=axis)
    else:
        looked = step.b.gather(table, index, axis=axis)
    return step.b.where(step.shaped(where, rank, axis, x.batch), looked, otherwise)

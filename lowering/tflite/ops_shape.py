"""Moving elements: reshape, transpose, slice, concat, pad, gather, flip; and sizes as values."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Size
from ...ir.graph import Op
from .body import T
from .registry import lower, refuse
from .sizes import size_matrix, size_value, size_vector


@lower("reshape", integer=True)
def reshape(e, op: Op, x: T) -> T:
    return e.reshape(x, op.result.type.sizes)


@lower("transpose", integer=True)
def transpose(e, op: Op, x: T) -> T:
    return e.transpose(x, op.attrs["perm"])


@lower("expand", integer=True)
def expand(e, op: Op, x: T) -> T:
    return e.expand(x, op.result.type.sizes)


@lower("slice", integer=True)
def slice_(e, op: Op, x: T) -> T:
    return e.slice(x, op.attrs["axis"], op.attrs["start"], op.attrs["stop"], op.attrs["step"])


@lower("concat", integer=True)
def concat(e, op: Op, *xs: T) -> T:
    return e.concat(xs, op.attrs["axis"])


@lower("pad", integer=True)
def pad(e, op: Op, x: T) -> T:
    pads, mode = op.attrs["pads"], op.attrs["mode"]
    if mode == "constant":
        return e.pad(x, pads, op.attrs["value"])
    if mode == "reflect":
        sizes = op.result.type.sizes
        return e.op("MIRROR_PAD", [x, size_matrix(e, pads)], x.dtype, sizes, x.quant, mode=0)
    for axis, (before, after) in enumerate(pads):  # the edge: copies of the first and the last slice
        first = _copies(e, e.slice(x, axis, 0, 1), axis, before)
        last = _copies(e, e.slice(x, axis, x.sizes[axis] - 1, x.sizes[axis]), axis, after)
        x = e.concat([*first, x, *last], axis)
    return x


def _copies(e, part: T, axis: int, count: Size) -> list[T]:
    if count == 0:
        return []
    if count == 1:
        return [part]
    times = size_vector(e, [count if i == axis else 1 for i in range(part.rank)])
    sizes = [count if i == axis else s for i, s in enumerate(part.sizes)]
    return [e.op("TILE", [part, times], part.dtype, sizes, part.quant)]


@refuse("pad")
def pad_ranks(op: Op) -> str | None:
    if op.attrs["mode"] == "reflect" and op.result.type.rank > 5:
        return "reflecting padding of more than 5 dimensions"
    return None


@lower("gather", integer=True)
def gather(e, op: Op, x: T, index: T) -> T:
    axis = op.attrs["axis"]
    sizes = (*x.sizes[:axis], *index.sizes, *x.sizes[axis + 1 :])
    return e.op("GATHER", [x, index], x.dtype, sizes, x.quant, axis=axis, batchDims=0)


@lower("gather_elements", integer=True)
def gather_elements(e, op: Op, x: T, index: T) -> T:
    """With the axis moved to the end: GATHER where all dimensions before it are batch."""
    axis, last = op.attrs["axis"], x.rank - 1
    for i, s in enumerate(index.sizes):
        if i != axis:
            x = e.slice(x, i, 0, s)
    if last == 0:
        return e.op("GATHER", [x, index], x.dtype, index.sizes, x.quant, axis=0, batchDims=0)
    perm = [i for i in range(x.rank) if i != axis] + [axis]
    x, index = e.transpose(x, perm), e.transpose(index, perm)
    y = e.op("GATHER", [x, index], x.dtype, index.sizes, x.quant, axis=last, batchDims=last)
    return e.transpose(y, [perm.index(i) for i in range(x.rank)])


@lower("flip", integer=True)
def flip(e, op: Op, x: T) -> T:
    axis = op.attrs["axis"] % x.rank
    return e.op("REVERSE_V2", [x, e.const(np.array([axis], np.int32))], x.dtype, x.sizes, x.quant)


@lower("iota")
def iota(e, op: Op) -> T:
    size = op.attrs["size"]
    if isinstance(size, int):
        values = e.const(np.arange(size, dtype=np.int32))
    else:
        ends = [e.scalar(0, "i32"), size_value(e, size), e.scalar(1, "i32")]
        values = e.op("RANGE", ends, "i32", (size,))
    return e.cast(values, {"i64": "i32"}.get(op.attrs["dtype"], op.attrs["dtype"]))


@lower("size")
def size(e, op: Op) -> T:
    return size_value(e, op.attrs["of"])


@lower("quantize")
def quantize(e, op: Op, x: T) -> T:
    return e.op("QUANTIZE", [x], op.result.type.dtype, x.sizes, op.result.type.quant)


@lower("dequantize")
def dequantize(e, op: Op, x: T) -> T:
    return x  # the emitter gives every op without an integer kernel the real values


@lower("read", integer=True)
def read(e, op: Op, state: T) -> T:
    return state


@lower("write", integer=True)
def write(e, op: Op, state: T, value: T) -> tuple:
    e.written[op.operands[0].name] = value
    return ()


@lower("history", integer=True)
def history(e, op: Op, x: T, state: T) -> T:
    axis = op.attrs["axis"]
    both, held, size = e.concat([state, x], axis), state.sizes[axis], x.sizes[axis]
    source, end = (x, size) if held <= size else (both, held + size)
    e.written[op.operands[1].name] = source if held == end else e.slice(source, axis, end - held, end)
    return both


@lower("retime", integer=True)
def retime(e, op: Op, x: T) -> T:
    return x

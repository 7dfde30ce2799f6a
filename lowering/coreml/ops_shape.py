"""Ops that move elements, and sizes as values."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Size
from ...ir.graph import Value
from .constants import NUMPY_TYPE
from .lower import lower

FLOATS = ("f16", "f32")


@lower("reshape")
def _(e, x, *, shape):
    return e.reshape(x, x.type.sizes, shape)


@lower("transpose")
def _(e, x, *, perm):
    return e.transpose(x, perm)


@lower("expand")
def _(e, x, *, shape):
    return e.expand(x, x.type.sizes, shape, e.real_of(x))


@lower("slice")
def _(e, x, *, axis, start, stop, step):
    return e.slice(x, x.type.sizes, axis, start, stop, step)


@lower("concat")
def _(e, *xs, axis):
    return e.op("concat", values=list(xs), axis=axis) if len(xs) > 1 else e.op("identity", x=xs[0])


@lower("pad")
def _(e, x, *, pads, mode, value):
    if x.type.quant is not None:
        value = x.type.quant.scale * (value - x.type.quant.zero_point)
    if e.real_of(x) in FLOATS:
        return e.pad(x, e.real_of(x), pads, value, mode)
    return _pieces(e, x, pads, mode, value)


def _pieces(e, x: Value, pads, mode: str, value: float):
    """Whole numbers and bools, for which MIL has no pad: what is added is joined on, axis by axis."""
    y, sizes = e.value(x), list(x.type.sizes)
    for axis, (before, after) in enumerate(pads):
        if (before, after) == (0, 0):
            continue
        n = sizes[axis]
        front = _added(e, y, sizes, axis, before, mode, value, x, (0, 1), (1, before + 1))
        back = _added(e, y, sizes, axis, after, mode, value, x, (n - 1, n), (n - 1 - after, n - 1))
        y = e.op("concat", values=[p for p in (front, y, back) if p is not None], axis=axis)
        sizes[axis] = n + before + after
    return y


def _added(e, y, sizes, axis: int, count: Size, mode: str, value, x: Value, edge, mirrored):
    if count == 0:
        return None
    piece = [count if i == axis else s for i, s in enumerate(sizes)]
    if mode == "constant":
        return e.op("fill", shape=e.sizes.vector(piece), value=e.number(value, x))
    start, stop = edge if mode == "edge" else mirrored
    part = e.slice(y, sizes, axis, start, stop)
    if mode == "reflect":
        return e.op("reverse", x=part, axes=[axis])
    return e.expand(part, [1 if i == axis else s for i, s in enumerate(sizes)], piece, x.type.dtype)


@lower("gather", since=lambda op: 17 if op.operands[0].type.dtype in ("i8", "u8") else 15)
def _(e, x, index, *, axis):
    return as_numbers(e, x, lambda y: e.op("gather", x=y, indices=index, axis=axis))


@lower("gather_elements")
def _(e, x, index, *, axis):
    return as_numbers(e, x, lambda y: e.op("gather_along_axis", x=y, indices=index, axis=axis))


def as_numbers(e, x: Value, move):
    """`move(x)`, where MIL moves numbers so, not bools."""
    if x.type.dtype != "bool":
        return move(x)
    return e.op("cast", x=move(e.op("cast", x=x, dtype="int32")), dtype="bool")


@lower("flip")
def _(e, x, *, axis):
    return e.op("reverse", x=x, axes=[axis % x.type.rank])


@lower("iota")
def _(e, *, size, dtype):
    if isinstance(size, int):
        return e.op("const", val=np.arange(size, dtype=NUMPY_TYPE[dtype]))
    y = e.op("range_1d", start=np.int32(0), end=e.sizes.scalar(size), step=np.int32(1))
    return e.cast(y, "i32", dtype)


@lower("size")
def _(e, *, of):
    return e.op("const", val=np.int32(of)) if isinstance(of, int) else e.sizes.scalar(of)

"""Ops that move elements, and sizes as values."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Expr, Size
from ...ir.graph import Op, Value
from ...ir.types import DTYPES
from .lower import BASE_OPSET, lower

END = np.iinfo(np.int64).max


def _reshape_opset(op: Op) -> int:
    return 14 if 0 in op.attrs["shape"] else BASE_OPSET


@lower("reshape", opset=_reshape_opset)
def _(e, x, *, shape):
    return e.reshape(x, x.type.sizes, shape)


@lower("transpose")
def _(e, x, *, perm):
    return e.node("Transpose", [x], perm=list(perm))


@lower("expand")
def _(e, x, *, shape):
    """Where x has its final size already, ONNX's Expand may be told 1."""
    sizes = list(shape)
    for i, s in enumerate(x.type.sizes, len(sizes) - x.type.rank):
        sizes[i] = 1 if s == sizes[i] else sizes[i]
    return e.node("Expand", [x, e.sizes.vector(sizes)])


@lower("slice")
def _(e, x, *, axis, start, stop, step):
    return sliced(e, x, x.type.sizes[axis], axis, start, stop, step)


def sliced(e, x, size: Size, axis: int, start: Size, stop: Size, step: int = 1):
    """Slice along `axis` of `size`; bounds at a known distance from the end are counted from there."""
    starts, stops = _bound(e, start, size, False), _bound(e, stop, size, True)
    return e.node("Slice", [x, starts, stops, np.array([axis], np.int64), np.array([step], np.int64)])


def _bound(e, bound: Size, size: Size, stop: bool):
    if isinstance(bound, Expr):
        back = size - bound
        if isinstance(back, int) and (back > 0 or stop):
            bound = -back if back else END
    return e.sizes.vector([bound])


@lower("concat")
def _(e, *xs, axis):
    return e.node("Concat", xs, axis=axis)


@lower("pad")
def _(e, x, *, pads, mode, value):
    return padded(e, x, pads, mode, value)


def padded(e, x: Value, pads, mode: str, value: float):
    """Pad with possibly symbolic amounts."""
    amounts = e.sizes.vector([p for p, _ in pads] + [q for _, q in pads])
    fill = [np.array(value).astype(DTYPES[x.type.dtype])] if mode == "constant" else []
    return e.node("Pad", [x, amounts, *fill], mode=mode)


@lower("gather")
def _(e, x, index, *, axis):
    return e.node("Gather", [x, index], axis=axis)


@lower("gather_elements")
def _(e, x, index, *, axis):
    return e.node("GatherElements", [x, index], axis=axis)


@lower("flip")
def _(e, x, *, axis):
    one = lambda n: np.array([n], np.int64)
    return e.node("Slice", [x, one(-1), one(np.iinfo(np.int64).min), one(axis % x.type.rank), one(-1)])


@lower("iota")
def _(e, *, size, dtype):
    if isinstance(size, int):
        return e.constant(np.arange(size, dtype=DTYPES[dtype]))
    kind = dtype if dtype != "f16" else "f32"  # Range has no half precision
    n = e.sizes.scalar(size)
    if kind != "i64":
        n = e.node("Cast", [n], to=int(e.tensor_type(kind).dtype))
    y = e.node("Range", [e.number(0, kind), n, e.number(1, kind)])
    return y if kind == dtype else e.node("Cast", [y], to=int(e.tensor_type(dtype).dtype))


@lower("size")
def _(e, *, of):
    return e.value(e.sizes.scalar(of))


@lower("read")
def _(e, state):
    return e.value(state)


@lower("write")
def _(e, state, value):
    e.written[state.name] = value
    return ()


@lower("history")
def _(e, x, state, *, axis, lead, trail):
    held, size = state.type.sizes[axis], x.type.sizes[axis]
    both = e.node("Concat", [state, x], axis=axis)
    source, end = (x, size) if held <= size else (both, held + size)
    e.written[state.name] = source if held == end else sliced(e, source, end, axis, end - held, end)
    return both


@lower("retime")
def _(e, x, *, axis, to):
    return e.value(x)

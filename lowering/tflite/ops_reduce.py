"""Reductions, running sums and pooling windows."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Size
from ...ir.graph import Op
from .body import T
from .ops_linear import VALID, as_2d, padded_input
from .registry import lower, refuse
from .sizes import size_value

LOWEST = float("-inf")
REDUCE = {"sum": "SUM", "mean": "MEAN", "max": "REDUCE_MAX", "min": "REDUCE_MIN"}


@lower(*REDUCE, integer=("mean",))
def reduce(e, op: Op, x: T) -> T:
    a = op.attrs
    if x.dtype == "bool":
        return e.cast(e.reduce(REDUCE[op.kind], e.cast(x, "i32"), a["axes"], a["keepdims"]), "bool")
    quant = e.out_quant(op)
    return e.reduce(REDUCE[op.kind], x, a["axes"], a["keepdims"], quant)


@lower("argmax")
def argmax(e, op: Op, x: T) -> T:
    axis = op.attrs["axis"] % x.rank
    kept = [s for i, s in enumerate(x.sizes) if i != axis]
    x = e.cast(x, "i32") if x.dtype == "bool" else x
    y = e.op("ARG_MAX", [x, e.const(np.int32(axis))], "i32", kept, outputType=e.file.schema.TensorType.INT32)
    return e.reshape(y, op.result.type.sizes)


@lower("cumsum")
def cumsum(e, op: Op, x: T) -> T:
    axis = e.const(np.int32(op.attrs["axis"] % x.rank))
    return e.op("CUMSUM", [x, axis], x.dtype, x.sizes, exclusive=False, reverse=False)


@lower("cummax")
def cummax(e, op: Op, x: T) -> T:
    """The maximum over a lower triangle: TFLite has no running maximum, so this takes T x T elements."""
    axis = op.attrs["axis"] % x.rank
    perm = [i for i in range(x.rank) if i != axis] + [axis]
    y = e.transpose(x, perm)
    n = y.sizes[-1]
    count = e.op("RANGE", [e.scalar(0, "i32"), size_value(e, n), e.scalar(1, "i32")], "i32", (n,))
    rows = e.op("EXPAND_DIMS", [count, e.const(np.int32(1))], "i32", (n, 1))
    seen = e.binary("LESS_EQUAL", count, rows, "bool")
    low = e.scalar(LOWEST) if x.dtype == "f32" else e.scalar(-(2**31), "i32")
    line = e.op("EXPAND_DIMS", [y, e.const(np.int32(y.rank - 1))], y.dtype, (*y.sizes[:-1], 1, n))
    spread = e.op("SELECT_V2", [seen, line, low], y.dtype, (*y.sizes[:-1], n, n))
    y = e.reduce("REDUCE_MAX", spread, [-1], keepdims=False)
    return e.transpose(y, [perm.index(i) for i in range(x.rank)])


@refuse("cummax")
def cummax_rank(op: Op) -> str | None:
    return "more than 4 dimensions" if op.result.type.rank > 4 else None


# -- pooling -------------------------------------------------------------------------------------------------------
@lower("max_pool", integer=True)
def max_pool(e, op: Op, x: T) -> T:
    a = op.attrs
    lowest = LOWEST if x.dtype == "f32" else -128
    x, stride, dilation, pads, kernel = as_2d(e, x, a["stride"], a["dilation"], a["pad"], a["kernel"])
    if all(d == 1 for d in dilation):
        x, padding, space = padded_input(e, x, kernel, stride, (1, 1), pads, lowest)
        y = pool(e, "MAX_POOL_2D", x, kernel, stride, padding, space)
        return e.reshape(y, op.result.type.sizes)
    x = e.pad(x, ((0, 0), *pads, (0, 0)), lowest)
    y = None
    for tap in np.ndindex(*kernel):  # TFLite's pools have no dilation
        part = x
        for axis, (i, k, d, s) in enumerate(zip(tap, kernel, dilation, stride), 1):
            part = e.slice(part, axis, i * d, x.sizes[axis] - (k - 1 - i) * d, s)
        y = part if y is None else e.maximum(y, part)
    return e.reshape(y, op.result.type.sizes)


def pool(e, name: str, x: T, kernel, stride, padding: int, space: list[Size]) -> T:
    return e.op(name, [x], x.dtype, (x.sizes[0], *space, x.sizes[-1]), x.quant, padding=padding, strideH=stride[0],
                strideW=stride[1], filterHeight=kernel[0], filterWidth=kernel[1])  # fmt: skip


@lower("avg_pool", integer=True)
def avg_pool(e, op: Op, x: T) -> T:
    a = op.attrs
    ones = (1,) * len(a["kernel"])
    x, stride, _, pads, kernel = as_2d(e, x, a["stride"], ones, a["pad"], a["kernel"])
    if a["count_pad"] or all(p == (0, 0) for p in pads):
        grown = e.pad(x, ((0, 0), *pads, (0, 0)), x.quant.zero_point if x.quant else 0)
        space = [(s - k) // st + 1 for s, k, st in zip(grown.sizes[1:3], kernel, stride)]
        y = pool(e, "AVERAGE_POOL_2D", grown, kernel, stride, VALID, space)
        return e.reshape(y, op.result.type.sizes)
    grown, padding, space = padded_input(e, x, kernel, stride, (1, 1), pads)
    y = pool(e, "AVERAGE_POOL_2D", grown, kernel, stride, padding, space)
    if padding == VALID:  # SAME leaves padding out of its counts; here the share that is not padding is divided out
        one = e.add(e.mul(e.slice(x, 3, 0, 1), 0.0), 1.0)
        share = pool(e, "AVERAGE_POOL_2D", e.pad(one, ((0, 0), *pads, (0, 0))), kernel, stride, VALID, space)
        y = e.div(y, share)
    return e.reshape(y, op.result.type.sizes)


@refuse("max_pool", "avg_pool")
def pool_form(op: Op) -> str | None:
    a, x = op.attrs, op.operands[0].type
    if not a["channel_last"]:
        return "channels first (the pass channels-last lays it out)"
    if len(a["kernel"]) > 2:
        return "more than two spatial dimensions"
    if a.get("out") and (x.quant is None or a["out"] != (x.dtype, x.quant.scale, x.quant.zero_point)):
        return "its integer kernel keeps the scale of its input"
    return None

"""Framing, overlap-add and upsampling."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Op
from .body import T
from .ops_linear import VALID, interleaved
from .registry import lower, refuse
from .sizes import size_value

WIDEST = 512  # frames up to this long are cut by a convolution with an identity, which needs no sizes


@lower("frame")
def frame(e, op: Op, x: T) -> T:
    size, hop = op.attrs["size"], op.attrs["hop"]
    sizes = op.result.type.sizes
    if x.dtype == "f32" and size <= WIDEST:
        count = sizes[-2]
        lead = 1
        for s in x.sizes[:-1]:
            lead = lead * s
        line = e.reshape(x, (lead, 1, x.sizes[-1], 1))
        taps = e.const(np.eye(size, dtype=np.float32).reshape(size, 1, size, 1), "identity")
        y = e.op("CONV_2D", [line, taps, e.const(np.zeros(size, np.float32))], "f32", (lead, 1, count, size),
                 padding=VALID, strideH=1, strideW=hop, dilationHFactor=1, dilationWFactor=1)  # fmt: skip
        return e.reshape(y, sizes)
    count = e.op("RANGE", [e.scalar(0, "i32"), size_value(e, sizes[-2]), e.scalar(1, "i32")], "i32", (sizes[-2],))
    starts = e.op("EXPAND_DIMS", [e.mul(count, hop), e.const(np.int32(1))], "i32", (sizes[-2], 1))
    index = e.add(starts, e.const(np.arange(size, dtype=np.int32)))
    return e.op("GATHER", [x, index], x.dtype, sizes, x.quant, axis=x.rank - 1, batchDims=0)


@lower("overlap_add")
def overlap_add(e, op: Op, x: T) -> T:
    """A convolution over frames that gives `hop` samples each (the phases of a transposed convolution)."""
    hop, size = op.attrs["hop"], x.sizes[-1]
    taps = -(-size // hop)
    lead = 1
    for s in x.sizes[:-2]:
        lead = lead * s
    full = np.zeros((taps * hop, size), np.float32)
    full[:size] = np.eye(size)
    filters = np.ascontiguousarray(full.reshape(taps, hop, size)[::-1].transpose(1, 0, 2)[:, None])
    y = e.pad(e.reshape(x, (lead, 1, x.sizes[-2], size)), ((0, 0), (0, 0), (taps - 1, taps - 1), (0, 0)))
    count = x.sizes[-2] + taps - 1
    y = e.op("CONV_2D", [y, e.const(filters), e.const(np.zeros(hop, np.float32))], "f32", (lead, 1, count, hop),
             padding=VALID, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)  # fmt: skip
    y = interleaved(e, y, 1, 1, hop, 1)
    return e.reshape(e.slice(y, 2, 0, op.result.type.sizes[-1]), op.result.type.sizes)


@refuse("overlap_add")
def overlap_form(op: Op) -> str | None:
    x = op.operands[0].type
    if not isinstance(x.sizes[-1], int) or x.dtype != "f32":
        return "frames of unknown size, or not float32"
    return None


@lower("resize")
def resize(e, op: Op, x: T) -> T:
    """Copies (or mixtures of neighbours) beside each other in a new dimension, which then joins the axis."""
    axis, scale = op.attrs["axis"] % x.rank, op.attrs["scale"]
    phases = [x] * scale if not op.attrs["linear"] else _mixtures(e, x, axis, scale)
    if scale == 1:
        return phases[0]
    outer, inner = 1, 1
    for s in x.sizes[:axis]:
        outer = outer * s
    for s in x.sizes[axis + 1 :]:
        inner = inner * s
    rows = [e.reshape(p, (outer * x.sizes[axis], 1, inner)) for p in phases]
    return e.reshape(e.concat(rows, 1), op.result.type.sizes)


def _mixtures(e, x: T, axis: int, scale: int) -> list[T]:
    n = x.sizes[axis]
    before = e.slice(e.concat([e.slice(x, axis, 0, 1), x], axis), axis, 0, n)
    behind = e.slice(e.concat([x, e.slice(x, axis, n - 1, n)], axis), axis, 1, n + 1)
    out = []
    for phase in range(scale):
        at = (phase + 0.5) / scale - 0.5
        if at == 0:
            out.append(x)
        else:
            part = abs(at)
            out.append(e.add(e.mul(x, 1 - part), e.mul(before if at < 0 else behind, part)))
    return out

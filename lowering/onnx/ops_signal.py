"""Framing, overlap-add, upsampling: by whole rows of one hop, so that nothing is gathered element by element."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Expr, Size
from ...ir.types import DTYPES
from .lower import lower
from .ops_shape import END, padded, sliced


def _slice(e, x, axis: int, start: int, stop: int):
    one = lambda n: np.array([n], np.int64)
    return e.node("Slice", [x, one(start), one(stop), one(axis)])


@lower("frame")
def _(e, x, *, size, hop):
    """The signal as rows of `hop` samples; a frame is a row and its followers, side by side."""
    *batch, length = x.type.sizes
    axis = len(batch)
    count = e.op.result.type.sizes[axis]
    rows = -(-size // hop)  # that a frame reaches into
    need = (count + rows - 1) * hop
    lacking = need - length  # above zero by less than a hop where a frame does not end with a row
    if isinstance(lacking, Expr) or lacking > 0:
        behind = rows * hop - size
        if behind:
            x = padded(e, x, [(0, 0)] * axis + [(0, behind)], "constant", 0.0)
            length = length + behind
    if length != need:
        x = sliced(e, x, length, axis, 0, need)
    table = e.reshape(x, (*batch, need), (*batch, count + rows - 1, hop))
    parts = []
    for i in range(rows):
        part = sliced(e, table, count + rows - 1, axis, i, count + i) if rows > 1 else table
        width = min(hop, size - i * hop)
        parts.append(part if width == hop else _slice(e, part, axis + 1, 0, width))
    return parts[0] if rows == 1 else e.node("Concat", parts, axis=axis + 1)


@lower("overlap_add")
def _(e, frames, *, hop):
    """Every frame is cut into rows of `hop` samples; row i of all frames moves down by i rows; then all are added."""
    *batch, count, size = frames.type.sizes
    axis = len(batch)
    rows = -(-size // hop)
    if rows * hop != size:
        frames_ = padded(e, frames, [(0, 0)] * (axis + 1) + [(0, rows * hop - size)], "constant", 0.0)
    else:
        frames_ = frames
    total = None
    for i in range(rows):
        part = frames_ if rows == 1 else _slice(e, frames_, axis + 1, i * hop, (i + 1) * hop)
        if rows > 1:
            amounts = [0] * axis + [i, 0] + [0] * axis + [rows - 1 - i, 0]
            part = e.node("Pad", [part, np.array(amounts, np.int64)])
        total = part if total is None else e.node("Add", [total, part])
    full: Size = (count + rows - 1) * hop
    y = e.reshape(total, (*batch, count + rows - 1, hop), (*batch, full))
    behind = rows * hop - size
    return _slice(e, y, axis, 0, -behind) if behind else y


@lower("resize")
def _(e, x, *, axis, scale, linear):
    """`scale` interleaved copies; for interpolation each is a fixed mixture of a frame and its neighbour."""
    axis %= x.type.rank
    if scale == 1:
        return e.node("Identity", [x])
    sizes = x.type.sizes
    parts = [e.value(x)] * scale
    if linear:
        before, after = _neighbour(e, x, axis, -1), _neighbour(e, x, axis, 1)
        parts = []
        for phase in range(scale):
            offset = (phase + 0.5) / scale - 0.5
            if offset == 0:
                parts.append(e.value(x))
                continue
            part = np.array(abs(offset), DTYPES[x.type.dtype])
            own = e.node("Mul", [x, e.number(1 - abs(offset), x)])
            parts.append(e.node("Add", [own, e.node("Mul", [before if offset < 0 else after, part])]))
    at = np.array([axis + 1], np.int64)
    parts = [e.node("Unsqueeze", [p, at]) for p in parts] if linear else [e.node("Unsqueeze", [x, at])] * scale
    y = e.node("Concat", parts, axis=axis + 1)
    stacked = (*sizes[: axis + 1], scale, *sizes[axis + 1 :])
    return e.reshape(y, stacked, (*sizes[:axis], sizes[axis] * scale, *sizes[axis + 1 :]))


def _neighbour(e, x, axis: int, step: int):
    """x moved by one frame against `step`, the edge repeated."""
    pads = [(0, 0)] * x.type.rank
    pads[axis] = (1, 0) if step < 0 else (0, 1)
    y = padded(e, x, pads, "edge", 0.0)
    return _slice(e, y, axis, 0, -1) if step < 0 else _slice(e, y, axis, 1, END)

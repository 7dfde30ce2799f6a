"""Framing, overlap-add, upsampling."""

from __future__ import annotations

from .lower import lower
from .ops_shape import as_numbers


@lower("frame")
def _(e, x, *, size, hop):
    return as_numbers(e, x, lambda y: e.op("sliding_windows", x=y, axis=x.type.rank - 1, size=size, stride=hop))


@lower("overlap_add")
def _(e, frames, *, hop):
    """Every frame is cut into rows of `hop` samples; row i of all frames moves down by i rows; then all are added."""
    *batch, count, size = frames.type.sizes
    axis, dtype = len(batch), frames.type.dtype
    rows = -(-size // hop)
    y = e.pad(frames, dtype, [(0, 0)] * (axis + 1) + [(0, rows * hop - size)])
    wide, total = (*batch, count, rows * hop), None
    for i in range(rows):
        part = e.slice(y, wide, axis + 1, i * hop, (i + 1) * hop)
        part = e.pad(part, dtype, [(0, 0)] * axis + [(i, rows - 1 - i), (0, 0)])
        total = part if total is None else e.op("add", x=total, y=part)
    full = (count + rows - 1) * hop
    y = e.reshape(total, (*batch, count + rows - 1, hop), (*batch, full))
    return e.slice(y, (*batch, full), axis, 0, full - (rows * hop - size))


@lower("resize")
def _(e, x, *, axis, scale, linear):
    """`scale` interleaved copies; for interpolation each is a fixed mixture of a frame and its neighbour."""
    axis %= x.type.rank
    if scale == 1:
        return e.op("identity", x=x)
    parts = _mixtures(e, x, axis, scale) if linear else [e.value(x)] * scale
    y = e.op("concat", values=[e.op("expand_dims", x=p, axes=[axis + 1]) for p in parts], axis=axis + 1)
    sizes = x.type.sizes
    stacked = (*sizes[: axis + 1], scale, *sizes[axis + 1 :])
    return e.reshape(y, stacked, (*sizes[:axis], sizes[axis] * scale, *sizes[axis + 1 :]))


def _mixtures(e, x, axis: int, scale: int) -> list:
    before, after, parts = _neighbour(e, x, axis, -1), _neighbour(e, x, axis, 1), []
    for phase in range(scale):
        offset = (phase + 0.5) / scale - 0.5
        if offset == 0:
            parts.append(e.value(x))
            continue
        own = e.op("mul", x=x, y=e.number(1 - abs(offset), x))
        other = e.op("mul", x=before if offset < 0 else after, y=e.number(abs(offset), x))
        parts.append(e.op("add", x=own, y=other))
    return parts


def _neighbour(e, x, axis: int, step: int):
    """x moved by one frame against `step`, the edge repeated."""
    sizes, n = x.type.sizes, x.type.sizes[axis]
    if n == 1:
        return e.value(x)
    if step < 0:
        values = [e.slice(x, sizes, axis, 0, 1), e.slice(x, sizes, axis, 0, n - 1)]
    else:
        values = [e.slice(x, sizes, axis, 1, n), e.slice(x, sizes, axis, n - 1, n)]
    return e.op("concat", values=values, axis=axis)

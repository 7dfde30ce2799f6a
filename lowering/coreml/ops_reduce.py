"""Reductions, running sums and maxima."""

from __future__ import annotations

import numpy as np

from .lower import lower

REDUCE = {"sum": "reduce_sum", "mean": "reduce_mean", "max": "reduce_max", "min": "reduce_min"}


@lower(*REDUCE)
def _(e, kind, x, *, axes, keepdims):
    if not axes:
        return e.op("identity", x=x)
    return e.op(REDUCE[kind], x=x, axes=list(axes), keep_dims=keepdims)


@lower("argmax")
def _(e, x, *, axis, keepdims):
    return e.op("reduce_argmax", x=x, axis=axis % x.type.rank, keep_dims=keepdims)


@lower("cumsum")
def _(e, x, *, axis):
    return e.op("cumsum", x=x, axis=axis % x.type.rank, exclusive=False, reverse=False)


@lower("cummax")
def _(e, x, *, axis):
    """After pass k every element is the largest of the 2^k up to it (Hillis and Steele 1986)."""
    axis %= x.type.rank
    dtype, sizes = x.type.dtype, x.type.sizes
    n = sizes[axis]
    longest = n if isinstance(n, int) else e.longest(n)
    y, whole = e.value(x), dtype in ("i32", "i64")
    if whole:  # pads are for floating point; float32 holds whole numbers up to 2^24
        y, dtype = e.op("cast", x=y, dtype="fp32"), "f32"
    reach = 1
    while reach < longest:
        pads = [(reach, 0) if i == axis else (0, 0) for i in range(x.type.rank)]
        earlier = e.pad(y, dtype, pads, -np.inf)
        longer = [s + reach if i == axis else s for i, s in enumerate(sizes)]
        y = e.op("maximum", x=y, y=e.slice(earlier, longer, axis, 0, n))
        reach *= 2
    y = e.op("identity", x=y) if longest <= 1 else y
    return e.op("cast", x=y, dtype="int32") if whole else y

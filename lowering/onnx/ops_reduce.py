"""Reductions, running sums and maxima, pooling."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Expr
from ...ir.types import FLOATS
from .lower import lower
from .ops_shape import padded

REDUCE = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin"}


@lower(*REDUCE)
def _(e, kind, x, *, axes, keepdims):
    if not axes:
        return e.node("Identity", [x])
    return e.reduce(REDUCE[kind], x, axes, keepdims)


@lower("argmax")
def _(e, x, *, axis, keepdims):
    return e.node("ArgMax", [x], axis=axis % x.type.rank, keepdims=int(keepdims))


@lower("cumsum")
def _(e, x, *, axis):
    return e.node("CumSum", [x, np.array(axis % x.type.rank, np.int64)])


@lower("cummax")
def _(e, x, *, axis):
    """A Scan that carries the largest slice so far."""
    axis %= x.type.rank
    first = e.node("Gather", [x, np.array(0, np.int64)], axis=axis)
    sizes = [s for i, s in enumerate(x.type.sizes) if i != axis]

    def step(largest, now):
        most = e.node("Max", [largest, now])
        return [most, e.node("Identity", [most])]

    body = e.body([("largest", x.type.dtype, sizes), ("now", x.type.dtype, sizes)], step)
    _, y = e.node(
        "Scan", [first, x], outputs=2, body=body, num_scan_inputs=1, scan_input_axes=[axis], scan_output_axes=[axis]
    )
    return y


@lower("max_pool")
def _(e, x, *, kernel, stride, pad, dilation, channel_last):
    x, pad = _fitting(e, x, kernel, pad, -np.inf)
    return e.node("MaxPool", [x], kernel_shape=list(kernel), strides=list(stride), pads=pad, dilations=list(dilation))


@lower("avg_pool")
def _(e, x, *, kernel, stride, pad, count_pad, channel_last):
    if count_pad:
        x, pad = _fitting(e, x, kernel, pad, 0.0)
    else:
        pad = [p for p, _ in pad] + [q for _, q in pad]
    return e.node("AveragePool", [x], kernel_shape=list(kernel), strides=list(stride), pads=pad,
                  count_include_pad=int(count_pad))  # fmt: skip


def _fitting(e, x, kernel, pad, value: float):
    """Pads as ONNX takes them: numbers below the kernel; others become a Pad in front."""
    flat = [p for p, _ in pad] + [q for _, q in pad]
    if not any(isinstance(p, Expr) or p >= k for p, k in zip(flat, (*kernel, *kernel))):
        return x, flat
    assert x.type.dtype in FLOATS
    return padded(e, x, [(0, 0), (0, 0), *pad], "constant", value), [0] * len(flat)

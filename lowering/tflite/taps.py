"""Depthwise convolutions in parts with as many taps as XNNPACK has kernels for.

It computes other numbers of taps with the next larger kernel (beyond 25 with a general one), whose further taps have
weight 0 and read the frames behind the window. Those may be NaN or infinite in a step, behind the end of a stream, and
0 · NaN is NaN: there no kernel may reach out of its window. Parts that overlap keep to it at the same cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from ...ir.graph import Graph, Op
from ...ir.types import offline
from .body import T

KERNELS = (3, 4, 9, 25)  # taps of XNNPACK's depthwise kernels: src/configs/dwconv-config.c
ONE_PASS, FASTEST = 25, 9
OVERHEAD = 4  # of one more part, in taps
GRIDS = ((2, 2), (3, 3), (5, 5), (1, 3), (3, 1), (1, 4), (4, 1), (1, 9), (9, 1))
VALID = 1

Part = tuple[int, int, int, int]  # first row and column, rows, columns


def in_parts(e, op: Op, x: T, w: T, kernel: tuple[int, int], stride: tuple[int, int]) -> bool:
    """Whether a convolution of [N, H, W, C], each channel by itself, is better off in parts.

    Beyond 25 taps it is 7 times slower in float and 8 times in int8: parts, in float, are faster than both.
    """
    taps = kernel[0] * kernel[1]
    if op.attrs.get("dynamic"):
        return False
    if taps > ONE_PASS:
        return kernel[0] == 1 and stride[1] == 1 and x.sizes[-1] > 1 and w.dtype != "f16"
    return x.quant is None and taps not in KERNELS and steps(e.ir)


def steps(graph: Graph) -> bool:
    """Whether a graph takes a stream piece by piece: what lies behind its end is then anything."""
    return any(not offline(d) for v in graph.inputs for d in v.type.shape)


def parts(kernel: tuple[int, int]) -> list[Part]:
    """Windows inside a kernel that cover it, each of as many taps as there are kernels for; single taps below 3."""
    rows, columns = kernel
    if rows * columns < min(KERNELS):
        return [(i, j, 1, 1) for i, j in np.ndindex(kernel)]
    if rows == 1:
        return [(0, at, 1, n) for at, n in line(columns)]
    if columns == 1:
        return [(at, 0, n, 1) for at, n in line(rows)]
    high, wide = min(
        ((h, w) for h, w in GRIDS if h <= rows and w <= columns),
        key=lambda g: -(-rows // g[0]) * -(-columns // g[1]) * (g[0] * g[1] + OVERHEAD),
    )
    return [(i, j, high, wide) for i, j in product(even(rows, high), even(columns, wide))]


def line(taps: int) -> Iterator[tuple[int, int]]:
    """(first, number) of the parts of a line: 9 (or 4) taps each, the last ending where the line does."""
    most = FASTEST if taps >= FASTEST else 4 if taps >= 4 else 3
    for at in range(0, taps, most):
        count = next(n for n in KERNELS if n >= min(most, taps - at))
        yield min(at, taps - count), count


def even(size: int, width: int) -> range | list[int]:
    """First indices of windows of one width that cover 0 … size - 1, the last ending there."""
    return [min(at, size - width) for at in range(0, size, width)]


def summed(e, x: T, w: T, weights: np.ndarray, b: np.ndarray | None, stride, dilation) -> T:
    """The sum of the parts of a convolution of x [N, H, W, C], padded already, by weights [C, rows, columns].

    Where parts overlap, one of them has the weight and the others 0. `w` is what the weights are made of; b is f32[C].
    """
    channels, kernel = len(weights), weights.shape[1:]
    none = np.zeros(channels, np.float32)
    space = [(s - (k - 1) * d - 1) // st + 1 for s, k, d, st in zip(x.sizes[1:3], kernel, dilation, stride)]
    total, left = None, np.ones(kernel, bool)
    for row, column, high, wide in parts(kernel):
        window = (slice(row, row + high), slice(column, column + wide))
        own = np.where(left[window], weights[(slice(None), *window)], 0).astype(weights.dtype)
        left[window] = False
        filters = e.derived(w, f"taps{row},{column}", np.ascontiguousarray(own.transpose(1, 2, 0)[None]))
        filters = e.widen(filters) if filters.dtype != "f32" else filters
        single = high * wide == 1
        part = x
        for axis, (at, n, d, st) in enumerate(zip((row, column), (high, wide), dilation, stride), 1):
            end = (space[axis - 1] - 1) * st + (at + n - 1) * d + 1
            part = e.slice(part, axis, at * d, end, st if single else 1)
        if single:
            y = e.mul(part, filters)
            y = y if b is None else e.add(y, e.const(b))
        else:
            y = e.op("DEPTHWISE_CONV_2D", [part, filters, e.const(none if b is None else b)], "f32",
                     (x.sizes[0], *space, channels), padding=VALID, strideH=stride[0], strideW=stride[1],
                     dilationHFactor=dilation[0], dilationWFactor=dilation[1], depthMultiplier=1)  # fmt: skip
        total, b = y if total is None else e.add(total, y), None
    return total

"""MIL's pooling, with its four kinds of padding, ceil_mode and averages with or without the padding."""

from __future__ import annotations

import numpy as np

from .mil_linear import window_pads, windows
from .mil_table import Refused, mil


def _plan(x, kernel_sizes, strides, pad_type, pad, ceil_mode):
    """Kernel, strides, pads, and how many elements beyond the padding the last window of each dimension reaches."""
    n = x.ndim - 2
    kernel = [int(k) for k in kernel_sizes]
    strides = [1] * n if strides is None else [int(s) for s in strides]
    pads = window_pads(pad_type, pad, x.shape[2:], kernel, strides)
    beyond = [0] * n
    if ceil_mode:
        if pad_type.lower().startswith("same"):
            raise Refused(f"ceil_mode does not go with pad_type {pad_type}")
        for i, (size, k, s, (a, b)) in enumerate(zip(x.shape[2:], kernel, strides, pads)):
            if a != b:
                raise Refused("ceil_mode needs equal padding on both sides")
            out = -(-(size + a + b - k) // s) + 1
            if (out - 1) * s >= size + a and a + b > 0:
                out -= 1  # a window that would begin in the padding behind
            beyond[i] = max(0, (out - 1) * s + k - size - a - b)
    return kernel, strides, pads, beyond


def _windows(x, fill, kernel, strides, pads, beyond):
    sides = [(0, 0), (0, 0), *((a, b + more) for (a, b), more in zip(pads, beyond))]
    found = windows(np.pad(x, sides, constant_values=fill), kernel, strides, [1] * len(kernel))
    return found.reshape(*found.shape[: x.ndim], -1)


@mil("max_pool")
def max_pool(x, kernel_sizes, pad_type, strides=None, pad=None, ceil_mode=False):
    return _windows(x, -np.inf, *_plan(x, kernel_sizes, strides, pad_type, pad, ceil_mode)).max(-1)


@mil("avg_pool")
def avg_pool(
    x, kernel_sizes, pad_type, strides=None, pad=None, exclude_padding_from_average=False, ceil_mode=False
):  # fmt: skip
    """Sums over counts; what ceil_mode adds beyond the padding never counts."""
    plan = _plan(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    kernel, strides, pads, beyond = plan
    counted = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if not exclude_padding_from_average:
        counted = np.pad(counted, [(0, 0), (0, 0), *pads], constant_values=1)
        counts = _windows(counted, 0, kernel, strides, [(0, 0)] * len(kernel), beyond)
    else:
        counts = _windows(counted, 0, *plan)
    return _windows(x, 0, *plan).sum(-1) / counts.sum(-1)


@mil("l2_pool")
def l2_pool(x, kernel_sizes, pad_type, strides=None, pad=None, ceil_mode=False):
    found = _windows(x, 0, *_plan(x, kernel_sizes, strides, pad_type, pad, ceil_mode))
    return np.sqrt((found * found).sum(-1))

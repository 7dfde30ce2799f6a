"""Ops of signal processing: framing, overlap-add, upsampling."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..errors import IRError
from ..expr import floordiv
from ..registry import op
from ..types import Tensor, normal_axis, resized


@op
def frame(x, *, size, hop):
    """[..., T] -> [..., N, size]: frame i holds samples i·hop to i·hop + size; N = ⌊(T - size) / hop⌋ + 1."""
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=-1)[..., ::hop, :]


@frame.rule
def _(x, *, size, hop):
    d = x.shape[-1]
    count = floordiv(d.size - size, hop) + 1
    if isinstance(count, int) and count < 1:
        raise IRError(f"frames of {size} do not fit into {d}")
    new = resized(d, count, Fraction(1, hop), lambda n: floordiv(n - size, hop) + 1)
    return x.with_(shape=[*x.shape[:-1], new, size])


@op
def overlap_add(frames, *, hop):
    """[..., N, size] -> [..., (N - 1)·hop + size]: frame i is added in at sample i·hop."""
    n, size = frames.shape[-2:]
    y = np.zeros((*frames.shape[:-2], (n - 1) * hop + size), frames.dtype)
    for i in range(n):
        y[..., i * hop : i * hop + size] += frames[..., i, :]
    return y


@overlap_add.rule
def _(frames, *, hop):
    if frames.rank < 2:
        raise IRError("wants frames of [..., count, size]")
    d, size = frames.shape[-2], frames.sizes[-1]
    new = resized(d, (d.size - 1) * hop + size, hop, lambda n: (n - 1) * hop + size)
    return frames.with_(shape=[*frames.shape[:-2], new])


@op
def resize(x, *, axis, scale, linear=False):
    """`scale` times as many elements along `axis`: each repeated, or interpolated between centres (half-pixel)."""
    if not linear:
        return np.repeat(x, scale, axis)
    n = x.shape[axis]
    at = np.clip((np.arange(n * scale) + 0.5) / scale - 0.5, 0, n - 1)
    low = np.floor(at).astype(int)
    part = (at - low).astype(x.dtype).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return np.take(x, low, axis) * (1 - part) + np.take(x, np.minimum(low + 1, n - 1), axis) * part


@resize.rule
def _(x: Tensor, *, axis, scale, linear):
    if not isinstance(scale, int) or scale < 1:
        raise IRError("wants a whole scale of 1 or more")
    at = normal_axis(axis, x.rank)
    larger = lambda d: resized(d, d.size * scale, scale, lambda n: n * scale)
    return x.with_(shape=[larger(d) if i == at else d for i, d in enumerate(x.shape)])

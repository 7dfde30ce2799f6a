"""Ops that collect over dimensions: sums, extremes, running sums, and pooling windows."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..registry import op
from ..types import Tensor, normal_axis
from .linear import channel_back, channel_first, laid_out, padded, spatial, window_dim, windows


def _reduced(x: Tensor, axes, keepdims: bool, dtype: str | None = None) -> Tensor:
    if len(set(axes)) != len(axes) or not all(0 <= a < x.rank for a in axes):
        raise IRError(f"axes {list(axes)} do not fit rank {x.rank}")
    shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keepdims or i not in axes]
    return Tensor(dtype or x.dtype, shape)


def _reduction(name: str, doc: str, meaning):
    def function(x, *, axes, keepdims=False):
        return np.asarray(meaning(x, axis=axes, keepdims=keepdims), x.dtype)

    function.__name__, function.__doc__, function.__module__ = name, doc, __name__
    op(name)(function).rule(lambda x, *, axes, keepdims: _reduced(x, axes, keepdims))


_reduction("sum", "The sum over `axes`.", np.sum)
_reduction("mean", "The mean over `axes`.", np.mean)
_reduction("max", "The largest over `axes`.", np.max)
_reduction("min", "The smallest over `axes`.", np.min)


@op
def argmax(x, *, axis, keepdims=False):
    """The index (i64) of the first largest element along `axis`."""
    return np.argmax(x, axis, keepdims=keepdims).astype(np.int64)


@argmax.rule
def _(x, *, axis, keepdims):
    return _reduced(x, (normal_axis(axis, x.rank),), keepdims, "i64")


@op
def cumsum(x, *, axis):
    """Running sums along `axis`, each including its own element."""
    return np.cumsum(x, axis, dtype=x.dtype)


@cumsum.rule
def _(x, *, axis):
    normal_axis(axis, x.rank)
    return x


@op
def cummax(x, *, axis):
    """Running maxima along `axis`, each including its own element."""
    return np.maximum.accumulate(x, axis)


@cummax.rule
def _(x, *, axis):
    normal_axis(axis, x.rank)
    return x


@op
def max_pool(x, *, kernel, stride, pad, dilation, channel_last=False):
    """The largest element in each window; padding counts as -infinity. x is [N, C, *S] ([N, *S, C])."""
    x = channel_first(x, channel_last)
    seen = windows(padded(x, pad, -np.inf), kernel, stride, dilation)
    return channel_back(seen.max(tuple(range(x.ndim, seen.ndim))), channel_last)


@max_pool.rule
def _(x, *, kernel, stride, pad, dilation, channel_last):
    return _pooled(x, kernel, stride, pad, dilation, channel_last)


@op
def avg_pool(x, *, kernel, stride, pad, count_pad=True, channel_last=False):
    """The mean of each window; padding is zero and counts as elements only if `count_pad`."""
    x = channel_first(x, channel_last)
    axes, ones = tuple(range(x.ndim, 2 * x.ndim - 2)), (1,) * len(kernel)
    total = windows(padded(x, pad), kernel, stride, ones).sum(axes)
    count = windows(padded(np.ones_like(x), pad, float(count_pad)), kernel, stride, ones).sum(axes)
    return channel_back(total / count, channel_last)


@avg_pool.rule
def _(x, *, kernel, stride, pad, count_pad, channel_last):
    return _pooled(x, kernel, stride, pad, (1,) * len(kernel), channel_last)


def _pooled(x: Tensor, kernel, stride, pad, dilation, last: bool) -> Tensor:
    n = x.rank - 2
    if n < 1 or not len(kernel) == len(stride) == len(pad) == len(dilation) == n:
        raise IRError("wants x of [N, C, *S] and kernel, stride, pad for every dimension of S")
    space = [window_dim(*a) for a in zip(spatial(x, last), kernel, stride, dilation, pad)]
    return Tensor(x.dtype, laid_out(x.shape[0], x.shape[-1 if last else 1], space, last))

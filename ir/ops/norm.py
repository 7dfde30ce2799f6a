"""Normalisations and softmax."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..expr import same
from ..registry import op
from ..types import Tensor, normal_axis


@op
def softmax(x, *, axis):
    """Exponentials along `axis`, divided by their sum; a line of only -infinity gives zeros."""
    top = x.max(axis, keepdims=True)
    e = np.exp(x - np.where(np.isneginf(top), x.dtype.type(0), top))
    total = e.sum(axis, keepdims=True)
    return e / np.where(total == 0, x.dtype.type(1), total)


@op
def log_softmax(x, *, axis):
    """The logarithm of softmax along `axis`."""
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _along(x: Tensor, *, axis) -> Tensor:
    normal_axis(axis, x.rank)
    return x


softmax.rule(_along)
log_softmax.rule(_along)


def _wide(x: np.ndarray) -> np.ndarray:
    """Statistics of float16 are computed in float32 (ONNX LayerNormalization, stash_type)."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


@op
def layer_norm(x, w=None, b=None, *, axis=-1, eps=1e-5):
    """(x - mean) / √(variance + eps) over the dimensions from `axis` on, times w, plus b (Ba et al. 2016)."""
    axes, wide = tuple(range(axis % x.ndim, x.ndim)), _wide(x)
    centred = wide - wide.mean(axes, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + wide.dtype.type(eps))
    y = y.astype(x.dtype)
    y = y if w is None else y * w
    return y if b is None else y + b


@layer_norm.rule
def _(x, w, b, *, axis, eps):
    for p in (w, b):
        if p is not None and not _same_tail(x, p, x.rank - normal_axis(axis, x.rank)):
            raise IRError("wants w and b of the shape that is normalised")
    return x


def _same_tail(x: Tensor, p: Tensor, n: int) -> bool:
    return p.rank == n and all(same(a, b) for a, b in zip(x.sizes[x.rank - n :], p.sizes))


@op
def rms_norm(x, w=None, *, eps=1e-6):
    """x / √(mean of squares over the last dimension + eps), times w (Zhang and Sennrich 2019)."""
    wide = _wide(x)
    y = (wide / np.sqrt((wide**2).mean(-1, keepdims=True) + wide.dtype.type(eps))).astype(x.dtype)
    return y if w is None else y * w


@rms_norm.rule
def _(x, w, *, eps):
    if w is not None and not _same_tail(x, w, 1):
        raise IRError("wants w of the last dimension")
    return x


@op
def batch_norm(x, gamma, beta, mean, var, *, axis=1, eps=1e-5):
    """gamma (x - mean) / √(var + eps) + beta with stored statistics per element of `axis` (Ioffe and Szegedy 2015)."""
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    scale = gamma / np.sqrt(var + var.dtype.type(eps))
    return x * scale.reshape(shape) + (beta - mean * scale).reshape(shape)


@batch_norm.rule
def _(x, gamma, beta, mean, var, *, axis, eps):
    for p in (gamma, beta, mean, var):
        if p.rank != 1 or not same(p.shape[0].size, x.shape[normal_axis(axis, x.rank)].size):
            raise IRError("wants one gamma, beta, mean and var per element of the axis")
    return x


@op
def group_norm(x, w=None, b=None, *, groups, eps=1e-5):
    """Normalises each of `groups` groups of channels of x [N, C, *S] over channels and S (Wu and He 2018)."""
    y = layer_norm.meaning(x.reshape(x.shape[0], groups, -1), eps=eps).reshape(x.shape)
    shape = (-1, *[1] * (x.ndim - 2))
    y = y if w is None else y * w.reshape(shape)
    return y if b is None else y + b.reshape(shape)


@group_norm.rule
def _(x, w, b, *, groups, eps):
    channels = x.sizes[1]
    if not isinstance(channels, int) or channels % groups:
        raise IRError(f"{channels} channels do not make {groups} groups")
    for p in (w, b):
        if p is not None and p.sizes != (channels,):
            raise IRError("wants one w and b per channel")
    return x

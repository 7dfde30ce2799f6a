"""MIL's normalisations, softmax, reductions and running sums."""

from __future__ import annotations

import numpy as np

from .mil_table import mil

EPSILON = 1e-5


@mil("batch_norm")
def batch_norm(x, mean, variance, gamma=None, beta=None, epsilon=EPSILON):
    """All but x are [C], for x [B, C, ...]."""
    return _scaled((x - _channels(mean, x)) / np.sqrt(_channels(variance, x) + epsilon), gamma, beta)


@mil("instance_norm")
def instance_norm(x, gamma=None, beta=None, epsilon=EPSILON):
    return _scaled(_standard(x, tuple(range(2, x.ndim)), epsilon), gamma, beta)


@mil("layer_norm")
def layer_norm(x, axes=None, gamma=None, beta=None, epsilon=EPSILON):
    """gamma and beta have the sizes of x at `axes`, in the order of x's dimensions."""
    axes = tuple(range(x.ndim)) if axes is None else tuple(sorted(int(a) % x.ndim for a in axes))
    y, over = _standard(x, axes, epsilon), [x.shape[a] if a in axes else 1 for a in range(x.ndim)]
    y = y if gamma is None else y * gamma.reshape(over)
    return y if beta is None else y + beta.reshape(over)


@mil("l2_norm")
def l2_norm(x, epsilon=1e-6):
    """Over the last three dimensions together."""
    return x / np.sqrt(np.sum(x * x, axis=(-3, -2, -1), keepdims=True) + epsilon)


@mil("softmax")
def softmax(x, axis=-1):
    y = np.exp(x - x.max(int(axis), keepdims=True))
    return y / y.sum(int(axis), keepdims=True)


def _log_sum_exp(x, axis, keepdims):
    peak = x.max(axis, keepdims=True)
    total = np.log(np.sum(np.exp(x - peak), axis, keepdims=True)) + peak
    return total if keepdims else np.squeeze(total, axis)


REDUCTIONS = {
    "reduce_sum": np.sum, "reduce_mean": np.mean, "reduce_max": np.max, "reduce_min": np.min, "reduce_prod": np.prod,
    "reduce_l1_norm": lambda x, axis, keepdims: np.sum(np.abs(x), axis, keepdims=keepdims),
    "reduce_l2_norm": lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis, keepdims=keepdims)),
    "reduce_sum_square": lambda x, axis, keepdims: np.sum(x * x, axis, keepdims=keepdims),
    "reduce_log_sum": lambda x, axis, keepdims: np.log(np.sum(x, axis, keepdims=keepdims)),
    "reduce_log_sum_exp": _log_sum_exp,
}  # fmt: skip


def _reduction(function):
    def reduce(x, axes=None, keep_dims=False):
        axes = tuple(range(x.ndim)) if axes is None else tuple(int(a) for a in axes)
        y = function(x, axis=axes, keepdims=bool(keep_dims))
        return np.trunc(y).astype(x.dtype) if x.dtype.kind == "i" else y

    return reduce


for _name, _function in REDUCTIONS.items():
    mil(_name)(_reduction(_function))


@mil("reduce_argmax", gives="@output_dtype", later={"output_dtype": 17})
def reduce_argmax(x, axis=-1, keep_dims=False, output_dtype="int32"):
    return np.argmax(x, int(axis), keepdims=bool(keep_dims))


@mil("reduce_argmin", gives="@output_dtype", later={"output_dtype": 17})
def reduce_argmin(x, axis=-1, keep_dims=False, output_dtype="int32"):
    return np.argmin(x, int(axis), keepdims=bool(keep_dims))


@mil("cumsum")
def cumsum(x, axis=0, exclusive=False, reverse=False):
    axis = int(axis)
    x = np.flip(x, axis) if reverse else x
    y = np.cumsum(x, axis, dtype=x.dtype)
    y = y - x if exclusive else y
    return np.flip(y, axis) if reverse else y


def _standard(x, axes, epsilon):
    """Mean 0 and variance 1 over `axes`."""
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt(np.mean(centred * centred, axes, keepdims=True) + epsilon)


def _scaled(x, gamma, beta):
    x = x if gamma is None else x * _channels(gamma, x)
    return x if beta is None else x + _channels(beta, x)


def _channels(vector, x):
    return vector.reshape(-1, *(1,) * (x.ndim - 2))

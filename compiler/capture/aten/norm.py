"""Normalisations and softmax."""

from __future__ import annotations

import numpy as np

from ....ir.graph import Value
from ....ir.types import DTYPES
from ..table import Context, aten


@aten("softmax.int", "_softmax", "_safe_softmax")
def _(c, x, dim, *_):
    return c.b.softmax(c.cast(x, c.dtype()), axis=c.axis(x, dim))


@aten("log_softmax.int", "_log_softmax")
def _(c, x, dim, *_):
    return c.b.log_softmax(c.cast(x, c.dtype()), axis=c.axis(x, dim))


@aten("softmin")
def _(c, x, dim, *_):
    return c.b.softmax(c.b.neg(x), axis=c.axis(x, dim))


@aten("layer_norm")
def _(c, x, normalized_shape, weight=None, bias=None, eps=1e-5, *_):
    return c.b.layer_norm(x, weight, bias, axis=x.type.rank - len(normalized_shape), eps=eps)


@aten("native_layer_norm")
def _(c, x, normalized_shape, weight, bias, eps):
    return c.b.layer_norm(x, weight, bias, axis=x.type.rank - len(normalized_shape), eps=eps), None, None


@aten("rms_norm", "_fused_rms_norm")
def _(c, x, normalized_shape, weight=None, eps=None):
    eps = float(np.finfo(DTYPES[x.type.dtype]).eps) if eps is None else eps
    if len(normalized_shape) == 1:
        y = c.b.rms_norm(x, weight, eps=eps)
    else:
        axes = tuple(range(x.type.rank - len(normalized_shape), x.type.rank))
        squares = c.b.mean(c.b.mul(x, x), axes=axes, keepdims=True)
        y = c.b.mul(x, c.b.rsqrt(c.b.add(squares, c.b.const(eps, x.type.dtype))))
        y = y if weight is None else c.b.mul(y, weight)
    return (y, None) if "_fused" in str(c.node.target) else y


@aten("batch_norm")
def _(c, x, weight, bias, mean, var, training, momentum, eps, *_):
    _evaluating(c, training)
    return normalised(c, x, weight, bias, mean, var, eps)


@aten("_native_batch_norm_legit_no_training", "_batch_norm_no_update")
def _(c, x, weight, bias, mean, var, momentum, eps):
    return normalised(c, x, weight, bias, mean, var, eps), None, None, None


@aten("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm")
def _(c, x, weight, bias, mean, var, training, momentum, eps):
    _evaluating(c, training)
    return normalised(c, x, weight, bias, mean, var, eps), None, None


def _evaluating(c: Context, training: bool) -> None:
    if training:
        raise c.no("normalises by the statistics of the batch", "call .eval() before exporting")


def normalised(c: Context, x: Value, weight, bias, mean: Value, var: Value, eps: float) -> Value:
    """Batch norm by stored statistics; a missing weight is 1, a missing bias 0."""
    ones = weight or c.weight("ones", np.ones(mean.type.sizes, DTYPES[mean.type.dtype]))
    zeros = bias or c.weight("zeros", np.zeros(mean.type.sizes, DTYPES[mean.type.dtype]))
    return c.b.batch_norm(x, ones, zeros, mean, var, axis=1, eps=eps)


@aten("group_norm")
def _(c, x, groups, weight=None, bias=None, eps=1e-5, *_):
    return c.b.group_norm(x, weight, bias, groups=groups, eps=eps)


@aten("native_group_norm")
def _(c, x, weight, bias, n, channels, space, groups, eps):
    return c.b.group_norm(x, weight, bias, groups=groups, eps=eps), None, None


@aten("instance_norm")
def _(c, x, weight, bias, mean, var, use_input_stats, momentum, eps, *_):
    if not use_input_stats:
        return normalised(c, x, weight, bias, mean, var, eps)
    return c.b.group_norm(x, weight, bias, groups=x.type.sizes[1], eps=eps)


@aten("_weight_norm", "_weight_norm_interface")
def _(c, v, g, dim=0):
    w = _weight_norm(c, v, g, dim)
    return (w, None) if "interface" in str(c.node.target) else w


def _weight_norm(c: Context, v: Value, g: Value, dim: int) -> Value:
    """v scaled so that its norm, per element of `dim`, is g (Salimans and Kingma 2016)."""
    axes = tuple(a for a in range(v.type.rank) if dim == -1 or a != c.axis(v, dim))
    if v.known and g.known:
        name = v.name.replace("parametrizations.", "").replace(".original1", "").removesuffix("_v")

        def compute(v, g):
            return (v * (g / np.sqrt((v.astype(np.float64) ** 2).sum(axes, keepdims=True)))).astype(v.dtype)

        return c.derived(name, f"weight_norm{axes}", [v, g], v.type.sizes, v.type.dtype, compute)
    norm = c.b.sqrt(c.b.sum(c.b.mul(v, v), axes=axes, keepdims=True))
    return c.b.mul(v, c.b.div(g, norm))

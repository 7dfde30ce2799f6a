"""Operators that collect over dimensions: sums, means, extremes, variances, running sums."""

from __future__ import annotations

import math

from ....ir.expr import Size
from ....ir.graph import Value
from ..table import Context, aten


@aten("sum.dim_IntList", "sum")
def _(c, x, dim=None, keepdim=False, *, dtype=None):
    return c.b.sum(c.cast(x, c.dtype()), axes=c.axes(x, dim), keepdims=keepdim)


@aten("mean.dim", "mean")
def _(c, x, dim=None, keepdim=False, *, dtype=None):
    return c.b.mean(c.cast(x, c.dtype()), axes=c.axes(x, dim), keepdims=keepdim)


@aten("amax")
def _(c, x, dim=(), keepdim=False):
    return c.b.max(x, axes=c.axes(x, dim), keepdims=keepdim)


@aten("amin")
def _(c, x, dim=(), keepdim=False):
    return c.b.min(x, axes=c.axes(x, dim), keepdims=keepdim)


@aten("max")
def _(c, x):
    return c.b.max(x, axes=c.axes(x, None))


@aten("min")
def _(c, x):
    return c.b.min(x, axes=c.axes(x, None))


@aten("max.dim")
def _(c, x, dim, keepdim=False):
    axis = c.axis(x, dim)
    return c.b.max(x, axes=(axis,), keepdims=keepdim), _position(c, x, axis, keepdim)


@aten("min.dim")
def _(c, x, dim, keepdim=False):
    axis = c.axis(x, dim)
    return c.b.min(x, axes=(axis,), keepdims=keepdim), _position(c, c.b.neg(x), axis, keepdim)


def _position(c: Context, x: Value, axis: int, keepdims: bool) -> Value | None:
    """The index of the largest element, if anybody looks at it."""
    used = any("getitem" in str(u.target) and u.args[1] == 1 for u in c.node.users)
    return c.b.argmax(x, axis=axis, keepdims=keepdims) if used else None


@aten("argmax")
def _(c, x, dim=None, keepdim=False):
    return _argmax(c, x, dim, keepdim)


@aten("argmin")
def _(c, x, dim=None, keepdim=False):
    return _argmax(c, c.b.neg(x), dim, keepdim)


def _argmax(c: Context, x: Value, dim, keepdim: bool) -> Value:
    if dim is None:
        return c.b.argmax(c.reshape(x, (count(x, range(x.type.rank)),)), axis=0)
    return c.b.argmax(x, axis=c.axis(x, dim), keepdims=keepdim)


@aten("mse_loss", "l1_loss")
def _(c, x, y, reduction=1):
    gap = c.b.sub(*c.promoted(x, y))
    gap = c.b.mul(gap, gap) if "mse" in str(c.node.target) else c.b.abs(gap)
    if reduction == 0:
        return gap
    return (c.b.mean, c.b.sum)[reduction - 1](gap, axes=c.axes(gap, None))


@aten("any", "any.dim", "any.dims")
def _(c, x, dim=None, keepdim=False):
    found = c.b.max(c.cast(c.cast(x, "bool"), "i32"), axes=c.axes(x, dim), keepdims=keepdim)
    return c.cast(found, "bool")


@aten("all", "all.dim", "all.dims")
def _(c, x, dim=None, keepdim=False):
    found = c.b.min(c.cast(c.cast(x, "bool"), "i32"), axes=c.axes(x, dim), keepdims=keepdim)
    return c.cast(found, "bool")


@aten("prod.dim_int")
def _(c, x, dim, keepdim=False, *, dtype=None):
    axis, x = c.axis(x, dim), c.cast(x, c.dtype())
    size = x.type.sizes[axis]
    if not isinstance(size, int):
        raise c.no("multiplies along a dimension whose length varies", "add logarithms instead")
    while size > 1:  # halves times halves; an odd one out waits
        half = size // 2
        pairs = c.b.mul(c.part(x, axis, 0, half), c.part(x, axis, half, 2 * half))
        x = c.concat([pairs, c.part(x, axis, 2 * half, size)], axis) if size % 2 else pairs
        size = half + size % 2
    return x if keepdim else c.reshape(x, _dropped(x, (axis,)))


@aten("cumsum")
def _(c, x, dim, *, dtype=None):
    return c.b.cumsum(c.cast(x, c.dtype()), axis=c.axis(x, dim))


@aten("cummax")
def _(c, x, dim):
    if any("getitem" in str(u.target) and u.args[1] == 1 for u in c.node.users):
        raise c.no("its indices are used")
    return c.b.cummax(x, axis=c.axis(x, dim)), None


@aten("logsumexp")
def _(c, x, dim, keepdim=False):
    axes = c.axes(x, dim)
    top = c.b.max(x, axes=axes, keepdims=True)
    total = c.b.add(c.b.log(c.b.sum(c.b.exp(c.b.sub(x, top)), axes=axes, keepdims=True)), top)
    return total if keepdim else c.reshape(total, _dropped(total, axes))


def _dropped(x: Value, axes) -> tuple[Size, ...]:
    return tuple(s for a, s in enumerate(x.type.sizes) if a not in axes)


def count(x: Value, axes) -> Size:
    """How many elements lie along `axes`."""
    total: Size = 1
    for a in axes:
        total = total * x.type.sizes[a]
    return total


def variance(c: Context, x: Value, axes, correction, keepdims: bool) -> tuple[Value, Value]:
    """Mean squared distance from the mean (over the count less `correction`), and the mean."""
    mean = c.b.mean(x, axes=axes, keepdims=True)
    centred = c.b.sub(x, mean)
    squares = c.b.mul(centred, centred)
    if correction:
        total = c.b.sum(squares, axes=axes, keepdims=keepdims)
        n = count(x, axes)
        if isinstance(n, int):
            free = c.b.const(n - correction, x.type.dtype)
        else:
            free = c.b.sub(c.value(n, x.type.dtype), c.b.const(correction, x.type.dtype))
        var = c.b.div(total, free)
    else:
        var = c.b.mean(squares, axes=axes, keepdims=keepdims)
    return var, mean if keepdims else c.reshape(mean, _dropped(mean, axes))


def _spread(c: Context, x: Value, args, correction, keepdim) -> tuple[Value, Value]:
    """The forms (x, unbiased), (x, dim, unbiased, keepdim) and (x, dim, correction=, keepdim=)."""
    dim, unbiased = None, None
    for a in args:
        if isinstance(a, bool):
            unbiased, keepdim = (a, keepdim) if unbiased is None else (unbiased, a)
        elif a is not None:
            dim = a
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return variance(c, x, c.axes(x, dim), correction, keepdim)


@aten("var", "var.dim", "var.correction")
def _(c, x, *args, correction=None, keepdim=False):
    return _spread(c, x, args, correction, keepdim)[0]


@aten("std", "std.dim", "std.correction")
def _(c, x, *args, correction=None, keepdim=False):
    return c.b.sqrt(_spread(c, x, args, correction, keepdim)[0])


@aten("var_mean", "var_mean.dim", "var_mean.correction")
def _(c, x, *args, correction=None, keepdim=False):
    return _spread(c, x, args, correction, keepdim)


@aten("std_mean", "std_mean.dim", "std_mean.correction")
def _(c, x, *args, correction=None, keepdim=False):
    var, mean = _spread(c, x, args, correction, keepdim)
    return c.b.sqrt(var), mean


@aten("linalg_vector_norm", "norm.Scalar", "norm.ScalarOpt_dim", "frobenius_norm.dim")
def _(c, x, ord=2, dim=None, keepdim=False, *, dtype=None):
    ord = 2 if ord is None else ord
    axes = c.axes(x, dim)
    if ord == 2:
        return c.b.sqrt(c.b.sum(c.b.mul(x, x), axes=axes, keepdims=keepdim))
    if ord == 1:
        return c.b.sum(c.b.abs(x), axes=axes, keepdims=keepdim)
    if abs(ord) == math.inf:
        return (c.b.max if ord > 0 else c.b.min)(c.b.abs(x), axes=axes, keepdims=keepdim)
    power = c.b.pow(c.b.abs(x), c.b.const(float(ord), x.type.dtype))
    return c.b.pow(c.b.sum(power, axes=axes, keepdims=keepdim), c.b.const(1 / ord, x.type.dtype))

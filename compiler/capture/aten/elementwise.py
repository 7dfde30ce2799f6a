"""Operators of one operand, element by element: functions, activations, casts."""

from __future__ import annotations

import math

from ....ir.graph import Value
from ..table import Context, aten

# Same name and meaning in the IR; integer operands become floating point as in PyTorch.
for _name in (
    "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh", "sigmoid", "silu", "erf", "relu", "neg", "abs",
    "sign", "floor", "ceil", "round",
):  # fmt: skip

    @aten(_name)
    def _(c: Context, x: Value, _name=_name):
        dtype = c.dtype()
        if dtype == x.type.dtype and dtype not in ("f16", "f32", "f64") and _name in ("floor", "ceil", "round"):
            return x
        return c.b.emit(_name, (c.cast(x, dtype),))


@aten("sgn")
def _(c, x):
    return c.b.sign(x)


@aten("square")
def _(c, x):
    return c.b.mul(x, x)


@aten("log2", "log10")
def _(c, x):
    x = c.cast(x, c.dtype())
    scale = 1 / math.log(10 if "log10" in str(c.node.target) else 2)
    return c.b.mul(c.b.log(x), c.b.const(scale, x.type.dtype))


@aten("log1p")
def _(c, x):
    x = c.cast(x, c.dtype())
    return c.b.log(c.b.add(x, c.b.const(1, x.type.dtype)))


@aten("expm1")
def _(c, x):
    x = c.cast(x, c.dtype())
    return c.b.sub(c.b.exp(x), c.b.const(1, x.type.dtype))


@aten("exp2")
def _(c, x):
    x = c.cast(x, c.dtype())
    return c.b.exp(c.b.mul(x, c.b.const(math.log(2), x.type.dtype)))


@aten("tan")
def _(c, x):
    x = c.cast(x, c.dtype())
    return c.b.div(c.b.sin(x), c.b.cos(x))


@aten("trunc", "fix")
def _(c, x):
    return x if not x.type.is_float else c.b.mul(c.b.sign(x), c.b.floor(c.b.abs(x)))


@aten("frac")
def _(c, x):
    return c.b.sub(x, c.b.mul(c.b.sign(x), c.b.floor(c.b.abs(x))))


@aten("round.decimals")
def _(c, x, *, decimals=0):
    if not x.type.is_float:
        return x
    scale = c.b.const(10.0**decimals, x.type.dtype)
    return c.b.div(c.b.round(c.b.mul(x, scale)), scale)


@aten("isnan")
def _(c, x):
    return c.b.logical_not(c.b.equal(x, x))


@aten("isinf")
def _(c, x):
    return c.b.equal(c.b.abs(x), c.b.const(math.inf, x.type.dtype))


@aten("isfinite")
def _(c, x):
    return c.b.less(c.b.abs(x), c.b.const(math.inf, x.type.dtype))


@aten("isneginf")
def _(c, x):
    return c.b.equal(x, c.b.const(-math.inf, x.type.dtype))


@aten("nan_to_num")
def _(c, x, nan=None, posinf=None, neginf=None):
    import torch

    dtype, limits = x.type.dtype, torch.finfo(c.meta().dtype)
    x = c.b.where(c.b.equal(x, x), x, c.b.const(nan or 0.0, dtype))
    top, bottom = limits.max if posinf is None else posinf, limits.min if neginf is None else neginf
    x = c.b.where(c.b.equal(x, c.b.const(math.inf, dtype)), c.b.const(top, dtype), x)
    return c.b.where(c.b.equal(x, c.b.const(-math.inf, dtype)), c.b.const(bottom, dtype), x)


# -- activations ---------------------------------------------------------------------------------------------------
@aten("gelu")
def _(c, x, approximate="none"):
    return c.b.gelu(x, tanh=approximate == "tanh")


@aten("leaky_relu")
def _(c, x, negative_slope=0.01):
    return c.b.leaky_relu(x, slope=float(negative_slope))


@aten("elu")
def _(c, x, alpha=1.0, scale=1.0, input_scale=1.0):
    x = scaled(c, x, input_scale)
    return scaled(c, c.b.elu(x, alpha=float(alpha)), scale)


@aten("selu")
def _(c, x):
    return scaled(c, c.b.elu(x, alpha=1.6732632423543772), 1.0507009873554805)


@aten("celu")
def _(c, x, alpha=1.0):
    return scaled(c, c.b.elu(scaled(c, x, 1 / alpha)), alpha)


@aten("softplus")
def _(c, x, beta=1, threshold=20):
    # Above the threshold PyTorch returns x itself; softplus differs from it there by less than e^-threshold.
    return scaled(c, c.b.softplus(scaled(c, x, beta)), 1 / beta)


@aten("log_sigmoid")
def _(c, x):
    return c.b.neg(c.b.softplus(c.b.neg(x)))


@aten("log_sigmoid_forward")
def _(c, x):
    return c.b.neg(c.b.softplus(c.b.neg(x))), None


@aten("mish")
def _(c, x):
    return c.b.mul(x, c.b.tanh(c.b.softplus(x)))


@aten("hardtanh")
def _(c, x, min_val=-1.0, max_val=1.0):
    return bounded(c, x, min_val, max_val)


@aten("relu6")
def _(c, x):
    return bounded(c, x, 0.0, 6.0)


@aten("hardsigmoid")
def _(c, x):
    return _hard_sigmoid(c, x)


@aten("hardswish")
def _(c, x):
    return c.b.mul(x, _hard_sigmoid(c, x))


def _hard_sigmoid(c: Context, x: Value) -> Value:
    dtype = x.type.dtype
    return c.b.mul(bounded(c, c.b.add(x, c.b.const(3.0, dtype)), 0.0, 6.0), c.b.const(1 / 6, dtype))


@aten("threshold")
def _(c, x, threshold, value):
    return c.b.where(c.b.less_equal(x, c.value(threshold, x.type.dtype)), c.value(value, x.type.dtype), x)


@aten("prelu", "_prelu_kernel")
def _(c, x, weight):
    if weight.type.rank == 1 and x.type.rank > 2:
        weight = c.reshape(weight, (weight.type.sizes[0], *[1] * (x.type.rank - 2)))
    zero = c.b.const(0.0, x.type.dtype)
    return c.b.add(c.b.relu(x), c.b.mul(weight, c.b.minimum(x, zero)))


@aten("glu")
def _(c, x, dim=-1):
    axis = c.axis(x, dim)
    size = x.type.sizes[axis]
    value = c.part(x, axis, 0, size // 2)
    return c.b.mul(value, c.b.sigmoid(c.part(x, axis, size // 2, size)))


# -- the same values in another guise ------------------------------------------------------------------------------
@aten(
    "clone", "alias", "contiguous", "detach", "lift_fresh_copy", "lift_fresh", "positive", "detach_copy", "alias_copy",
    parts=True,
)  # fmt: skip
def _(c, x, **_):
    return x


@aten("dropout", "feature_dropout", "alpha_dropout", "native_dropout", parts=True)
def _(c, x, p=0.5, train=False):
    if train and p:
        raise c.no("dropout is active", "call .eval() before exporting")
    return (x, None) if "native" in str(c.node.target) else x


@aten(
    "_to_copy", "to.dtype", "to.dtype_layout", "to.device", "to.other", "to.prim_Device", "type_as", "float",
    "_cast_Float",
)  # fmt: skip
def _(c, x, *_, **__):
    return c.cast(x, c.dtype())


def scaled(c: Context, x: Value, factor: float) -> Value:
    """factor * x."""
    return x if factor == 1 else c.b.mul(x, c.b.const(factor, x.type.dtype))


def bounded(c: Context, x: Value, low, high) -> Value:
    """x, not below `low` nor above `high` (None: no bound)."""
    if low is not None:
        x = c.b.maximum(x, c.value(low, x.type.dtype))
    return x if high is None else c.b.minimum(x, c.value(high, x.type.dtype))

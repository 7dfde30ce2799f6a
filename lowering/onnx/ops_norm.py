"""Softmax and normalisations."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Expr
from ...ir.graph import Value
from ...ir.types import DTYPES
from .lower import lower

_PASS_ON = {"add", "sub", "where", "minimum", "maximum", "cast", "reshape", "transpose", "expand", "slice", "concat",
            "gather", "gather_elements", "flip", "pad", "neg", "read", "frame"}  # fmt: skip
_MAKE = {"log", "reciprocal", "div"}  # give an infinity for an argument of zero


def may_be_minus_infinity(e, v: Value | None) -> bool:
    """Whether -inf is meant to stand in `v`: a mask that was filled in, or passed on by ops that keep infinities."""
    known = e.cache.setdefault("minus infinity", {})
    if v is None or not v.type.is_float:
        return False
    if id(v) not in known:
        if v.kind == "const":
            known[id(v)] = bool(np.isneginf(v.payload))
        elif v.kind == "weight":
            known[id(v)] = v.type.quant is None and v.known and bool(np.isneginf(v.array).any())
        elif v.kind == "result":
            known[id(v)] = v.op.kind == "log" or (
                v.op.kind in _PASS_ON and any(may_be_minus_infinity(e, x) for x in v.op.operands)
            )
        else:
            known[id(v)] = False
    return known[id(v)]


@lower("softmax")
def _(e, x, *, axis):
    axis %= x.type.rank
    if not may_be_minus_infinity(e, x):
        return e.node("Softmax", [x], axis=axis)
    zero = e.number(0, x)
    dead = e.node("Equal", [e.reduce("ReduceMax", x, [axis], True), e.number(-np.inf, x)])
    return e.node("Where", [dead, zero, e.node("Softmax", [x], axis=axis)])


@lower("log_softmax")
def _(e, x, *, axis):
    return e.node("LogSoftmax", [x], axis=axis % x.type.rank)


@lower("layer_norm", opset=17)
def _(e, x, w, b, *, axis, eps):
    axis %= x.type.rank
    tail = x.type.sizes[axis:]
    if w is None and any(isinstance(s, Expr) for s in tail):
        axes = range(axis, x.type.rank)
        y = _centred(e, x, x, axes, eps)
        return y if b is None else e.node("Add", [y, b])
    w = np.ones(tail, DTYPES[x.type.dtype]) if w is None else w
    return e.node("LayerNormalization", [x, w, *([] if b is None else [b])], axis=axis, epsilon=float(eps))


def _centred(e, x, like: Value, axes, eps):
    """(x - mean) / √(variance + eps) over `axes`."""
    centred = e.node("Sub", [x, e.reduce("ReduceMean", x, axes, True)])
    variance = e.reduce("ReduceMean", e.node("Mul", [centred, centred]), axes, True)
    return e.node("Div", [centred, e.node("Sqrt", [e.node("Add", [variance, e.number(eps, like)])])])


@lower("rms_norm")
def _(e, x, w, *, eps):
    """Spelled out as onnxruntime's SimplifiedLayerNormFusion looks for it."""
    square = e.node("Pow", [x, e.number(2, x)])
    mean = e.reduce("ReduceMean", square, [x.type.rank - 1], True)
    y = e.node("Div", [x, e.node("Sqrt", [e.node("Add", [mean, e.number(eps, x)])])])
    return y if w is None else e.node("Mul", [y, w])


@lower("batch_norm")
def _(e, x, gamma, beta, mean, var, *, axis, eps):
    axis %= x.type.rank
    if axis == 1:
        return e.node("BatchNormalization", [x, gamma, beta, mean, var], epsilon=float(eps))
    scale = e.node("Div", [gamma, e.node("Sqrt", [e.node("Add", [var, e.number(eps, var)])])])
    shift = e.node("Sub", [beta, e.node("Mul", [mean, scale])])
    size = gamma.type.sizes[0]
    if axis != x.type.rank - 1:
        shape = [size, *[1] * (x.type.rank - 1 - axis)]
        scale, shift = (e.reshape(v, (size,), shape) for v in (scale, shift))
    return e.node("Add", [e.node("Mul", [x, scale]), shift])


@lower("group_norm")
def _(e, x, w, b, *, groups, eps):
    n, c, *space = x.type.sizes
    dtype = DTYPES[x.type.dtype]
    if groups == c:
        w, b = (np.full(c, f, dtype) if p is None else p for p, f in ((w, 1), (b, 0)))
        return e.node("InstanceNormalization", [x, w, b], epsilon=float(eps))
    size = c // groups
    for s in space:
        size = size * s
    grouped = e.reshape(x, x.type.sizes, (n, groups, size))
    y = e.node("InstanceNormalization", [grouped, np.ones(groups, dtype), np.zeros(groups, dtype)], epsilon=float(eps))
    y = e.reshape(y, (n, groups, size), x.type.sizes)
    shape = (c, *[1] * len(space))
    y = y if w is None else e.node("Mul", [y, e.reshape(w, (c,), shape)])
    return y if b is None else e.node("Add", [y, e.reshape(b, (c,), shape)])

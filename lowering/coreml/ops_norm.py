"""Softmax and normalisations."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Value
from .constants import behind
from .lower import lower

_PASS_ON = {"add", "sub", "where", "minimum", "maximum", "cast", "reshape", "transpose", "expand", "slice", "concat",
            "gather", "gather_elements", "flip", "pad", "neg", "read", "frame"}  # fmt: skip


def may_be_minus_infinity(e, v: Value | None) -> bool:
    """Whether -inf is meant to stand in `v`: a mask that was filled in, or passed on by ops that keep infinities."""
    known = e.cache.setdefault("minus infinity", {})
    if v is None or not v.type.is_float:
        return False
    if id(v) not in known:
        if v.known:
            known[id(v)] = v.type.quant is None and bool(np.isneginf(v.array).any())
        elif v.kind == "result":
            known[id(v)] = v.op.kind == "log" or (
                v.op.kind in _PASS_ON and any(may_be_minus_infinity(e, x) for x in v.op.operands)
            )
        else:
            known[id(v)] = False
    return known[id(v)]


@lower("softmax")
def _(e, x, *, axis):
    """A line of only -infinity gives zeros: there the row starts from a finite number, and is taken out after."""
    axis %= x.type.rank
    if not may_be_minus_infinity(e, x):
        return e.op("softmax", x=x, axis=axis)
    lowest = e.number(np.finfo(np.float16 if x.type.dtype == "f16" else np.float32).min / 2, x)
    limited = e.op("maximum", x=x, y=lowest)
    seen = e.op("greater", x=e.op("reduce_max", x=limited, axes=[axis], keep_dims=True), y=lowest)
    alive = e.op("cast", x=seen, dtype="fp16" if x.type.dtype == "f16" else "fp32")
    return e.op("mul", x=e.op("softmax", x=limited, axis=axis), y=alive)


@lower("log_softmax")
def _(e, x, *, axis):
    """Not as log(softmax), which is -inf where softmax is too small to show."""
    axis %= x.type.rank
    shifted = e.op("sub", x=x, y=e.op("reduce_max", x=x, axes=[axis], keep_dims=True))
    total = e.op("reduce_sum", x=e.op("exp", x=shifted), axes=[axis], keep_dims=True)
    return e.op("sub", x=shifted, y=e.op("log", x=total, epsilon=e.number(0, x)))


@lower("layer_norm")
def _(e, x, w, b, *, axis, eps):
    axes = list(range(axis % x.type.rank, x.type.rank))
    tail = x.type.sizes[axes[0] :]
    if w is None and b is not None and all(isinstance(s, int) for s in tail):
        w = np.ones(tail, np.float16 if x.type.dtype == "f16" else np.float32)  # MIL wants both or none
    fixed = (w is None) == (b is None) or b is None
    fixed = fixed and all(isinstance(p, np.ndarray) or p is None or behind(p) is not None for p in (w, b))
    inside = {"gamma": w, "beta": b} if fixed else {}
    y = e.op("layer_norm", x=x, axes=axes, epsilon=e.number(eps, x), **inside)
    return y if fixed else _scaled(e, y, w, b)


def _scaled(e, y, w, b):
    y = y if w is None else e.op("mul", x=y, y=w)
    return y if b is None else e.op("add", x=y, y=b)


@lower("rms_norm")
def _(e, x, w, *, eps):
    """The mean of squares is taken in float32: float16 ends at 65504."""
    half = x.type.dtype == "f16"
    wide = e.op("cast", x=x, dtype="fp32") if half else e.value(x)
    mean = e.op("reduce_mean", x=e.op("mul", x=wide, y=wide), axes=[-1], keep_dims=True)
    y = e.op("real_div", x=wide, y=e.op("sqrt", x=e.op("add", x=mean, y=np.float32(eps))))
    return _scaled(e, e.op("cast", x=y, dtype="fp16") if half else y, w, None)


@lower("batch_norm")
def _(e, x, gamma, beta, mean, var, *, axis, eps):
    axis %= x.type.rank
    stored = {"gamma": gamma, "beta": beta, "mean": mean, "variance": var}
    if axis == 1 and x.type.rank in (3, 4, 5) and all(behind(p) is not None for p in stored.values()):
        return e.op("batch_norm", x=x, epsilon=e.number(eps, x), **stored)
    scale = e.op("real_div", x=gamma, y=e.op("sqrt", x=e.op("add", x=var, y=e.number(eps, var))))
    shift = e.op("sub", x=beta, y=e.op("mul", x=mean, y=scale))
    size = gamma.type.sizes[0]
    if axis != x.type.rank - 1:
        shape = (size, *[1] * (x.type.rank - 1 - axis))
        scale, shift = (e.reshape(v, (size,), shape) for v in (scale, shift))
    return e.op("add", x=e.op("mul", x=x, y=scale), y=shift)


@lower("group_norm")
def _(e, x, w, b, *, groups, eps):
    n, c, *space = x.type.sizes
    size = c // groups
    for s in space:
        size = size * s
    y = e.op("layer_norm", x=e.reshape(x, x.type.sizes, (n, groups, size)), axes=[2], epsilon=e.number(eps, x))
    y = e.reshape(y, (n, groups, size), x.type.sizes)
    shape = (c, *[1] * len(space))
    w, b = (None if p is None else e.reshape(p, (c,), shape) for p in (w, b))
    return _scaled(e, y, w, b)

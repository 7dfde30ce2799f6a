"""Normalisations and softmax, in the operators that XNNPACK runs."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Op, Value
from .body import T
from .registry import lower

FLOOR = -1e30  # stands for -infinity where a kernel would make NaN of it


@lower("softmax", integer=True)
def softmax(e, op: Op, x: T) -> T:
    axis, quant = op.attrs["axis"] % x.rank, e.out_quant(op)
    perm = [i for i in range(x.rank) if i != axis] + [axis]
    back = [perm.index(i) for i in range(x.rank)]
    guard = e.reduce("REDUCE_MAX", x, [axis]) if quant is None and may_be_empty(op.operands[0]) else None
    if guard is not None:
        x = e.maximum(x, FLOOR)
    y = e.op("SOFTMAX", [e.transpose(x, perm)], "i8" if quant else "f32", [x.sizes[p] for p in perm], quant, beta=1.0)
    y = e.transpose(y, back)
    return y if guard is None else e.mul(y, alive(e, guard))


def alive(e, top: T) -> T:
    """1 where the largest score of a line is finite, 0 where all are -infinity (or `FLOOR`)."""
    return e.minimum(e.maximum(e.add(e.mul(top, -1.001 / FLOOR), 1.0), 0.0), 1.0)


MOVES = {"add", "sub", "expand", "reshape", "transpose", "slice", "concat", "gather", "where", "maximum", "minimum"}


def may_be_empty(v: Value, depth: int = 12) -> bool:
    """Whether -infinity can reach `v` by sums and selections: a whole line of it has to give zeros."""
    if v.known:
        return v.type.is_float and bool(np.isneginf(v.array).any())
    if v.kind != "result" or v.op.kind not in MOVES or depth == 0:
        return False
    return any(may_be_empty(o, depth - 1) for o in v.op.operands if o is not None)


@lower("log_softmax")
def log_softmax(e, op: Op, x: T) -> T:
    """x - max - log Σ exp (XNNPACK has no LOG_SOFTMAX)."""
    axis = op.attrs["axis"] % x.rank
    shifted = e.sub(x, e.reduce("REDUCE_MAX", x, [axis]))
    total = e.reduce("SUM", e.unary("EXP", shifted), [axis])
    return e.sub(shifted, e.unary("LOG", total))


def normalised(e, x: T, axes, eps: float) -> T:
    """(x - mean) / √(variance + eps) over `axes`."""
    centred = e.sub(x, e.reduce("MEAN", x, axes))
    variance = e.reduce("MEAN", e.unary("SQUARE", centred), axes)
    return e.mul(centred, e.unary("RSQRT", e.add(variance, eps)))


def affine(e, y: T, w: T | None, b: T | None) -> T:
    y = y if w is None else e.mul(y, w)
    return y if b is None else e.add(y, b)


@lower("layer_norm")
def layer_norm(e, op: Op, x: T, w: T | None, b: T | None) -> T:
    axes = range(op.attrs["axis"] % x.rank, x.rank)
    return affine(e, normalised(e, x, axes, op.attrs["eps"]), w, b)


@lower("rms_norm")
def rms_norm(e, op: Op, x: T, w: T | None) -> T:
    square = e.reduce("MEAN", e.unary("SQUARE", x), [-1])
    return affine(e, e.mul(x, e.unary("RSQRT", e.add(square, op.attrs["eps"]))), w, None)


@lower("batch_norm")
def batch_norm(e, op: Op, x: T, gamma: T, beta: T, mean: T, var: T) -> T:
    shape = [s if i == op.attrs["axis"] % x.rank else 1 for i, s in enumerate(x.sizes)]
    known = all(t.array is not None for t in (gamma, beta, mean, var))
    if known:
        scale = gamma.array / np.sqrt(var.array + np.float32(op.attrs["eps"]))
        w = e.derived(gamma, "scale", scale.astype(np.float32).reshape(shape))
        b = e.derived(beta, "shift", (beta.array - mean.array * scale).astype(np.float32).reshape(shape))
        return affine(e, x, w, b)
    gamma, beta, mean, var = (e.reshape(t, shape) for t in (gamma, beta, mean, var))
    scale = e.mul(gamma, e.unary("RSQRT", e.add(var, op.attrs["eps"])))
    return e.add(e.mul(e.sub(x, mean), scale), beta)


@lower("group_norm")
def group_norm(e, op: Op, x: T, w: T | None, b: T | None) -> T:
    groups = op.attrs["groups"]
    per = x.sizes[1] // groups
    inner = per
    for s in x.sizes[2:]:
        inner = inner * s
    y = e.reshape(normalised(e, e.reshape(x, (x.sizes[0], groups, inner)), [-1], op.attrs["eps"]), x.sizes)
    shape = (x.sizes[1], *[1] * (x.rank - 2))
    return affine(e, y, None if w is None else e.reshape(w, shape), None if b is None else e.reshape(b, shape))

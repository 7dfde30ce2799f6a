"""Attention as products and a softmax."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Expr
from ...ir.graph import Value
from .lower import lower
from .ops_norm import may_be_minus_infinity


@lower("attention")
def _(e, q, k, v, mask, *, scale, causal):
    """softmax(q kᵀ · scale + mask) v."""
    *batch, heads, tq, size = q.type.sizes
    groups, tk = k.type.sizes[-3:-1]
    shared = groups != heads
    # Query heads that share a key head lie one below the other, as rows of one product.
    merged = (*batch, groups, (heads // groups) * tq) if shared else (*batch, heads, tq)
    queries = e.op("mul", x=q, y=e.number(scale, q))
    queries = e.reshape(queries, q.type.sizes, (*merged, size)) if shared else queries
    scores = e.op("matmul", x=queries, y=k, transpose_y=True)
    added, alive = masks(e, q, mask, causal, tq, tk)
    if shared and added is not None:
        scores = e.reshape(scores, (*merged, tk), (*batch, heads, tq, tk))
    scores = scores if added is None else e.op("add", x=scores, y=added)
    weights = e.op("softmax", x=scores, axis=-1)
    weights = weights if alive is None else e.op("mul", x=weights, y=alive)
    if shared and added is not None:
        weights = e.reshape(weights, (*batch, heads, tq, tk), (*merged, tk))
    y = e.op("matmul", x=weights, y=v)
    out = v.type.sizes[-1]
    return e.reshape(y, (*merged, out), (*batch, heads, tq, out)) if shared else y


def masks(e, q: Value, mask: Value | None, causal: bool, tq, tk):
    """What is added to the scores, and 1 for queries that see a key, 0 for others (None: all do); once for each mask.

    A hidden key gets a finite number far below every score, so that a row without keys stays free of NaN.
    """
    key = ("mask", None if mask is None else id(mask), causal, tq, tk, q.type.dtype)
    if key not in e.cache:
        with e.located("masks"):
            e.cache[key] = _masks(e, mask, causal, tq, tk, q.type.dtype)
    return e.cache[key]


def _masks(e, mask: Value | None, causal: bool, tq, tk, dtype: str):
    half = dtype == "f16"
    hidden = e.number(np.finfo(np.float16 if half else np.float32).min / 2, dtype)
    as_float = lambda x: e.op("cast", x=x, dtype="fp16" if half else "fp32")
    seen = _causal(e, tq, tk) if causal else None
    # (1 - seen) * hidden: finite, and nothing that has to be spread to the size of the scores.
    lowered = lambda look: e.op("mul", x=as_float(e.op("logical_not", x=look)), y=hidden)
    if mask is None:
        return (None if seen is None else lowered(seen)), None
    if mask.type.dtype == "bool":
        look = e.value(mask) if seen is None else e.op("logical_and", x=mask, y=seen)
        alive = e.op("reduce_max", x=as_float(look), axes=[-1], keep_dims=True)
        return lowered(look), alive
    limited = e.op("maximum", x=mask, y=hidden)
    if seen is not None:  # the sum of two hidden numbers would leave float16's range
        limited = e.op("maximum", x=e.op("add", x=e.op("mul", x=limited, y=as_float(seen)), y=lowered(seen)), y=hidden)
    if not may_be_minus_infinity(e, mask):
        return limited, None
    alive = e.op("greater", x=e.op("reduce_max", x=limited, axes=[-1], keep_dims=True), y=hidden)
    return limited, as_float(alive)


def _causal(e, tq, tk):
    """[Tq, Tk]: whether key j stands at or before query i."""
    if not isinstance(tq, Expr) and not isinstance(tk, Expr):
        return e.op("const", val=np.tri(tq, tk, dtype=np.bool_))
    rows, columns = (e.op("range_1d", start=np.int32(0), end=e.sizes.scalar(n), step=np.int32(1)) for n in (tq, tk))
    return e.op("less_equal", x=columns, y=e.op("expand_dims", x=rows, axes=[1]))

"""Attention as products and a softmax."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Expr
from ...ir.graph import Value
from ...ir.types import DTYPES
from .lower import lower
from .ops_norm import may_be_minus_infinity


@lower("attention")
def _(e, q, k, v, mask, *, scale, causal):
    """softmax(q kᵀ · scale + mask) v; onnxruntime folds the transpose and the scale into the first product."""
    *batch, heads, tq, size = q.type.sizes
    groups, tk = k.type.sizes[-3:-1]
    shared = groups != heads
    rank = q.type.rank
    # Query heads that share a key head lie one below the other, as rows of one product.
    merged = (*batch, groups, (heads // groups) * tq) if shared else (*batch, heads, tq)
    queries = e.reshape(q, q.type.sizes, (*merged, size)) if shared else e.value(q)
    keys = e.node("Transpose", [k], perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = e.node("Mul", [e.node("MatMul", [queries, keys]), e.number(scale, q)])
    added, dead = masks(e, q, mask, causal, tq, tk)
    if shared and added is not None:
        scores = e.reshape(scores, (*merged, tk), (*batch, heads, tq, tk))
    scores = scores if added is None else e.node("Add", [scores, added])
    weights = e.node("Softmax", [scores], axis=rank - 1)
    if shared and added is not None:
        weights = e.reshape(weights, (*batch, heads, tq, tk), (*merged, tk))
    y = e.node("MatMul", [weights, v])
    if shared:
        out = v.type.sizes[-1]
        y = e.reshape(y, (*merged, out), (*batch, heads, tq, out))
    return y if dead is None else e.node("Where", [dead, e.number(0, q), y])


def masks(e, q: Value, mask: Value | None, causal: bool, tq, tk):
    """What is added to the scores, and which queries see nothing (None: no query); once a graph for each mask.

    A hidden key gets a finite number far below every score, so that a row without keys stays free of NaN.
    """
    dtype = q.type.dtype
    key = ("mask", None if mask is None else id(mask), causal, tq, tk, dtype)
    if key not in e.cache:
        with e.located("masks"):
            e.cache[key] = _masks(e, mask, causal, tq, tk, dtype)
    return e.cache[key]


def _masks(e, mask: Value | None, causal: bool, tq, tk, dtype: str):
    hidden = np.array(np.finfo(DTYPES[dtype]).min / 2, DTYPES[dtype])
    zero = np.array(0, DTYPES[dtype])
    seen = _causal(e, tq, tk) if causal else None
    if mask is None:
        return (None if seen is None else e.node("Where", [seen, zero, hidden])), None
    if mask.type.dtype == "bool":
        look = mask if seen is None else e.node("And", [mask, seen])
        anything = e.reduce("ReduceMax", e.node("Cast", [look], to=int(e.tensor_type("i32").dtype)), [-1], True)
        dead = e.node("Equal", [anything, np.array(0, np.int32)])
        return e.node("Where", [look, zero, hidden]), dead
    added = mask if seen is None else e.node("Where", [seen, mask, hidden])
    if not may_be_minus_infinity(e, mask):
        return e.value(added), None
    limited = e.node("Max", [added, hidden])
    return limited, e.node("LessOrEqual", [e.reduce("ReduceMax", limited, [-1], True), hidden])


def _causal(e, tq, tk):
    """[Tq, Tk]: whether key j stands at or before query i."""
    if not isinstance(tq, Expr) and not isinstance(tk, Expr):
        return e.constant(np.tri(tq, tk, dtype=np.bool_), "causal")
    rows, columns = (_range(e, n) for n in (tq, tk))
    return e.node("LessOrEqual", [columns, e.node("Unsqueeze", [rows, np.array([1], np.int64)])])


def _range(e, n):
    if not isinstance(n, Expr):
        return np.arange(n)
    return e.node("Range", [np.int64(0), e.sizes.scalar(n), np.int64(1)])

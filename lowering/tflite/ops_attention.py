"""Scaled dot-product attention as two BATCH_MATMULs around a SOFTMAX."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Op, Value
from .body import T
from .ops_norm import FLOOR, alive, may_be_empty
from .registry import lower, refuse
from .sizes import size_value


@lower("attention")
def attention(e, op: Op, q: T, k: T, v: T, mask: T | None) -> T:
    heads, groups = q.sizes[-3], k.sizes[-3]
    q = e.mul(q, op.attrs["scale"])
    lead = q.sizes[:-3]
    shared = heads != groups
    if shared:  # one more dimension: the query heads of a key head
        share = heads // groups
        q = e.reshape(q, (*lead, groups, share, *q.sizes[-2:]))
        k, v = (e.reshape(t, (*t.sizes[:-2], 1, *t.sizes[-2:])) for t in (k, v))
    sizes = (*q.sizes[:-1], k.sizes[-2])
    scores = e.op("BATCH_MATMUL", [q, k], "f32", sizes, adjX=False, adjY=True)
    total, seen = combined(e, op, mask, q.sizes[-2], k.sizes[-2])
    if total is not None:
        scores = e.add(scores, split_heads(e, total, groups, heads) if shared else total)
    if seen is not None and shared:
        seen = split_heads(e, seen, groups, heads)
    weights = e.unary("SOFTMAX", scores, beta=1.0)
    y = e.op("BATCH_MATMUL", [weights, v], "f32", (*sizes[:-1], v.sizes[-1]), adjX=False, adjY=False)
    if seen is not None:
        y = e.mul(y, seen)
    return e.reshape(y, op.result.type.sizes)


def combined(e, op: Op, mask: T | None, queries, keys) -> tuple[T | None, T | None]:
    """What to add to the scores, and 1 or 0 for every query that sees something or nothing; made once a mask."""
    value, both = op.operands[3], op.attrs["causal"]
    if mask is None:
        return (causal(e, queries, keys) if both else None), None
    key = ("mask", id(value), both)
    if key not in e.shared:
        total, seen = _additive(e, value, mask)
        if both:
            total = e.add(total, causal(e, queries, keys))
            seen = alive(e, e.reduce("REDUCE_MAX", total, [-1]))
        e.shared[key] = total, seen
    return e.shared[key]


def _additive(e, value: Value, mask: T) -> tuple[T, T | None]:
    if mask.unexpanded is not None and mask.unexpanded.sizes[-1] == mask.sizes[-1]:
        mask = mask.unexpanded
    if mask.array is not None:
        array = mask.array if mask.array.dtype != np.bool_ else np.where(mask.array, 0, FLOOR)
        array = np.maximum(array, FLOOR).astype(np.float32)
        lines = (array.max(-1, keepdims=True) > FLOOR).astype(np.float32)
        return e.const(array), None if lines.all() else e.const(lines)
    if mask.dtype == "bool":
        numbers = e.op("SELECT_V2", [mask, e.scalar(0.0), e.scalar(FLOOR)], "f32", mask.sizes)
        return numbers, alive(e, e.reduce("REDUCE_MAX", numbers, [-1]))
    if not may_be_empty(value):
        return mask, None
    numbers = e.maximum(mask, FLOOR)
    return numbers, alive(e, e.reduce("REDUCE_MAX", numbers, [-1]))


def split_heads(e, m: T, groups: int, heads: int) -> T:
    """A mask [..., H or 1, Tq, Tk] for scores [..., G, H / G, Tq, Tk]."""
    if m.rank < 3:
        return m
    if m.sizes[-3] == 1:
        return e.reshape(m, (*m.sizes[:-2], 1, *m.sizes[-2:]))
    return e.reshape(m, (*m.sizes[:-3], groups, heads // groups, *m.sizes[-2:]))


def causal(e, queries, keys) -> T:
    """0 on and below the diagonal, `FLOOR` above; made once for each pair of sizes."""
    key = ("causal", queries, keys)
    if key not in e.shared:
        if isinstance(queries, int) and isinstance(keys, int):
            e.shared[key] = e.const(np.where(np.tri(queries, keys, dtype=bool), 0, FLOOR).astype(np.float32))
        else:
            rows, columns = (
                e.op("RANGE", [e.scalar(0, "i32"), size_value(e, n), e.scalar(1, "i32")], "i32", (n,))
                for n in (queries, keys)
            )
            rows = e.op("EXPAND_DIMS", [rows, e.const(np.int32(1))], "i32", (queries, 1))
            seen = e.binary("LESS_EQUAL", columns, rows, "bool")
            e.shared[key] = e.op("SELECT_V2", [seen, e.scalar(0.0), e.scalar(FLOOR)], "f32", (queries, keys))
    return e.shared[key]


@refuse("attention")
def attention_rank(op: Op) -> str | None:
    q, k = op.operands[0].type, op.operands[1].type
    if q.rank + (q.sizes[-3] != k.sizes[-3]) > 5:
        return "more than 5 dimensions"
    return None

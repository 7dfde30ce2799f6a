"""Recognise scaled dot-product attention that a framework spelled out as products and a softmax."""

from __future__ import annotations

from ..ir.errors import IRError
from ..ir.expr import same
from ..ir.graph import Op, Value
from .base import Close
from .rewrite import Rewrite, bare, number_of
from .simplify import inferred


class RecogniseAttention(Rewrite):
    """softmax(q kᵀ · scale + mask) v is one attention op, the scale wherever it was applied."""

    # Scaling before or after the product rounds differently.
    name, stage, equal = "recognise-attention", "optimize", Close(rtol=1e-5)

    def match(self, p, scores, v):
        weights = p.softmax(scores, name="softmax")
        return p.matmul(weights, v, name="mix")

    def check(self, m):
        softmax = m["softmax"]
        if softmax.attrs["axis"] not in (-1, m.scores.type.rank - 1) or m.v.type.rank < 3:
            return False
        found = _take_apart(m.scores)
        if found is None:
            return m.no("scores are not a product of queries and keys, scaled and masked")
        m.parts = found
        q, k, mask, _ = found
        if k.type.rank < 3:
            return m.no("keys have no head dimension", k)
        *heads, features, time = k.type.shape
        keys = Value("result", k.type.with_(shape=(*heads, time, features)))
        try:
            whole = inferred("attention", q, keys, m.v, mask, scale=1.0, causal=False)
        except IRError as error:
            return m.no(error.message)
        return whole == m.root.result.type

    def build(self, g, m):
        q, k, mask, scale = m.parts
        axes = tuple(range(k.type.rank))
        if k.op is not None and k.op.kind == "transpose" and k.op.attrs["perm"] == (*axes[:-2], axes[-1], axes[-2]):
            k = k.op.operands[0]
        else:
            k = g.transpose(k, perm=(*axes[:-2], axes[-1], axes[-2]))
        return g.attention(q, k, m.v, mask, scale=scale)


def _take_apart(scores: Value) -> tuple[Value, Value, Value | None, float] | None:
    """(q, kᵀ, mask, scale) of scores = (q kᵀ) scale + mask, scales on q or k included; None if it is not that."""
    mask, scale, value = None, 1.0, scores
    while True:
        op = _single(value)
        if op is None:
            return None
        if op.kind == "add" and mask is None:
            products = [v for v in op.operands if _leads_to_product(v)]
            if len(products) != 1:
                return None
            value = products[0]
            mask = next(v for v in op.operands if v is not value)
            if scale != 1.0:
                return None
        elif op.kind in ("mul", "div"):
            inner, factor = _scaled(op)
            if inner is None:
                return None
            value, scale = inner, scale * factor
        elif op.kind == "matmul":
            (q, a), (k, b) = _unscaled(op.operands[0]), _unscaled(op.operands[1])
            return (q, k, mask, scale * a * b) if same(q.type.sizes[-1], k.type.sizes[-2]) else None
        else:
            return None


def _single(value: Value) -> Op | None:
    """The op behind a value that has one reader, where it does no more than its kind says."""
    return value.op if value.op is not None and len(value.users) == 1 and bare(value.op) else None


def _leads_to_product(value: Value) -> bool:
    op = _single(value)
    while op is not None and op.kind in ("mul", "div"):
        inner, _ = _scaled(op)
        op = _single(inner) if inner is not None else None
    return op is not None and op.kind == "matmul"


def _scaled(op: Op) -> tuple[Value | None, float]:
    """x and the number f of an op that computes x · f."""
    a, b = op.operands
    if (n := number_of(b)) is not None and (n or op.kind == "mul"):
        return a, (n if op.kind == "mul" else 1 / n)
    if op.kind == "mul" and (n := number_of(a)) is not None:
        return b, n
    return None, 1.0


def _unscaled(value: Value) -> tuple[Value, float]:
    if value.op is not None and value.op.kind in ("mul", "div") and bare(value.op):
        inner, factor = _scaled(value.op)
        if inner is not None and inner.type == value.type:
            return inner, factor
    return value, 1.0

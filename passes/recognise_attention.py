"""Recognise scaled dot-product attention that a framework spelled out as products and a softmax."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..ir.errors import IRError
from ..ir.expr import same
from ..ir.graph import Builder, Op, Value
from ..ir.types import Tensor, broadcast
from .base import Close
from .rewrite import Rewrite, bare, number_of
from .simplify import inferred

LARGE = -9e3  # no score comes near it: e to that power is 0 beside any other


@dataclass
class Masks:
    """What befalls scores before their softmax: `hidden` by bool masks (mask, the side that hides), `added` a term.

    The term counts `factor` times: scores may be scaled after it was added.
    """

    hidden: list[tuple[Value, bool]] = field(default_factory=list)
    added: Value | None = None
    factor: float = 1.0

    def type(self, dtype: str) -> Tensor:
        """The type of all of them in one."""
        values = [v for v, _ in self.hidden] + ([self.added] if self.added is not None else [])
        return Tensor("bool" if self.added is None else dtype, broadcast(*(v.type.shape for v in values)))

    def build(self, g: Builder) -> Value:
        """One mask that does the same: bool where nothing is added."""
        seen, added = None, self.added
        if added is not None and self.factor != 1.0:
            added = g.mul(added, g.const(self.factor, added.type.dtype))
        for mask, hides in self.hidden:
            one = g.logical_not(mask) if hides else mask
            seen = one if seen is None else g.logical_and(seen, one)
        if seen is None or added is None:
            return added if seen is None else seen
        return g.where(seen, added, g.const(float("-inf"), added.type.dtype))


class RecogniseAttention(Rewrite):
    """softmax(q kᵀ · scale + mask) v is one attention op, the scale wherever it was applied.

    Masks are added, or put -infinity in place of scores; such a mask may also put 0 in place of weights after the
    softmax. A large negative number for -infinity will do only with both: a query that sees nothing would else see all.
    """

    # Scaling before or after the product rounds differently.
    name, stage, equal = "recognise-attention", "optimize", Close(rtol=1e-5)

    def match(self, p, scores, v, mask, a, b):
        weights = p.softmax(scores, name="softmax")
        cleared = p.where(mask, a, b, name="cleared")
        return [p.matmul(weights, v, name="mix"), p.matmul(cleared, v, name="mix")]

    def check(self, m):
        softmax, cleared = m.ops.get("softmax"), None
        if softmax is None:
            cleared = _cleared(m["cleared"])
            if cleared is None:
                return False
            softmax = cleared[0]
        scores = softmax.operands[0]
        if softmax.attrs["axis"] not in (-1, scores.type.rank - 1) or m.v.type.rank < 3:
            return False
        found = _take_apart(scores, None if cleared is None else cleared[1:])
        if found is None:
            return m.no("scores are not a product of queries and keys, scaled and masked")
        m.parts = found
        q, k, masks, _ = found
        if k.type.rank < 3:
            return m.no("keys have no head dimension", k)
        *heads, features, time = k.type.shape
        keys = Value("result", k.type.with_(shape=(*heads, time, features)))
        mask = None if masks is None else Value("result", masks.type(q.type.dtype))
        try:
            whole = inferred("attention", q, keys, m.v, mask, scale=1.0, causal=False)
        except IRError as error:
            return m.no(error.message)
        return whole == m.root.result.type

    def build(self, g, m):
        q, k, masks, scale = m.parts
        axes = tuple(range(k.type.rank))
        if k.op is not None and k.op.kind == "transpose" and k.op.attrs["perm"] == (*axes[:-2], axes[-1], axes[-2]):
            k = k.op.operands[0]
        else:
            k = g.transpose(k, perm=(*axes[:-2], axes[-1], axes[-2]))
        return g.attention(q, k, m.v, None if masks is None else masks.build(g), scale=scale)


def _cleared(op: Op) -> tuple[Op, Value, bool] | None:
    """(softmax, mask, the side that hides) of an op that puts 0 in place of some weights."""
    filled = _filled(op)
    if filled is None or filled[3] != 0:
        return None
    softmax = _single(filled[0])
    return (softmax, filled[1], filled[2]) if softmax is not None and softmax.kind == "softmax" else None


def _filled(op: Op) -> tuple[Value, Value, bool, float] | None:
    """(x, mask, the side that hides, number) of where(mask, x, number) or where(mask, number, x)."""
    mask, a, b = op.operands
    for x, other, hides in ((a, b, False), (b, a, True)):
        number = number_of(other)
        if number is not None and x.type == op.result.type:
            return x, mask, hides, number
    return None


def _take_apart(
    scores: Value, cleared: tuple[Value, bool] | None = None
) -> tuple[Value, Value, Masks | None, float] | None:
    """(q, kᵀ, masks, scale) of scores = (q kᵀ) scale + masks, scales on q or k included; None if it is not that.

    `cleared` is a mask that sets weights to 0 after the softmax: it has to be one of those before.
    """
    masks, scale, value = Masks(), 1.0, scores
    while True:
        op = _single(value)
        if op is None:
            return None
        if op.kind == "add" and masks.added is None:
            products = [v for v in op.operands if _leads_to_product(v)]
            if len(products) != 1:
                return None
            value = products[0]
            masks.added, masks.factor = next(v for v in op.operands if v is not value), scale
        elif op.kind == "where":
            filled = _filled(op)
            if filled is None:
                return None
            value, mask, hides, number = filled
            same_mask = cleared is not None and mask is cleared[0] and hides == cleared[1]
            if scale <= 0 or not (number == float("-inf") or (same_mask and number * scale <= LARGE)):
                return None
            masks.hidden.append((mask, hides))
        elif op.kind in ("mul", "div"):
            inner, factor = _scaled(op)
            if inner is None:
                return None
            value, scale = inner, scale * factor
        elif op.kind == "matmul":
            if cleared is not None and not any(v is cleared[0] and h == cleared[1] for v, h in masks.hidden):
                return None
            (q, a), (k, b) = _unscaled(op.operands[0]), _unscaled(op.operands[1])
            used = masks if masks.hidden or masks.added is not None else None
            return (q, k, used, scale * a * b) if same(q.type.sizes[-1], k.type.sizes[-2]) else None
        else:
            return None


def _single(value: Value) -> Op | None:
    """The op behind a value that has one reader, where it does no more than its kind says."""
    return value.op if value.op is not None and len(value.users) == 1 and bare(value.op) else None


def _leads_to_product(value: Value) -> bool:
    op = _single(value)
    while op is not None and op.kind in ("mul", "div", "where"):
        inner = (_filled(op) or (None,))[0] if op.kind == "where" else _scaled(op)[0]
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

"""A relu behind a matrix product, convolution or sum becomes part of it."""

from __future__ import annotations

from ..ir.registry import THEN
from .base import Exact
from .rewrite import Rewrite


class FuseActivation(Rewrite):
    """relu(op(…)) is op(…) with then="relu", for targets whose kernels clip as they write."""

    name, stage, equal = "fuse-activation", "legalize", Exact()

    def match(self, p):
        inner = p.one_of(("linear", "conv", "conv_transpose", "add", "sub", "mul", "matmul"), name="op")
        return p.one_of(tuple(THEN), inner, name="activation")

    def check(self, m):
        attrs = m["op"].attrs
        if m["activation"].attrs.get("out") and (attrs.get("out") or attrs.get("dynamic")):
            return False
        return not attrs.get("then") and not attrs.get("out")

    def build(self, g, m):
        inner, activation = m["op"], m["activation"]
        return g.emit(inner.kind, inner.operands, {**inner.attrs, **activation.attrs, "then": activation.kind})

"""A relu behind a matrix product, convolution or sum becomes part of it."""

from __future__ import annotations

from ..ir.registry import THEN
from .base import Exact
from .rewrite import Rewrite, bare


class FuseActivation(Rewrite):
    """relu(op(…)) is op(…) with then="relu", for targets whose kernels clip as they write."""

    name, stage, equal = "fuse-activation", "legalize", Exact()

    def match(self, p):
        inner = ("linear", "conv", "conv_transpose", "add", "sub", "mul", "matmul")
        return p.one_of(tuple(THEN), p.one_of(inner, name="op", bare=False), name="activation", bare=False)

    def check(self, m):
        attrs = m["op"].attrs
        if m["activation"].attrs.get("out") and (attrs.get("out") or attrs.get("dynamic")):
            return False
        return bare(m["op"], "dynamic") and bare(m["activation"], "out")

    def build(self, g, m):
        inner, activation = m["op"], m["activation"]
        return g.emit(inner.kind, inner.operands, {**inner.attrs, **activation.attrs, "then": activation.kind})

"""Fold batch norm into the convolution or matrix product before it, or into one multiplication and addition."""

from __future__ import annotations

import numpy as np

from ..ir.types import Tensor
from .base import Close
from .rewrite import Rewrite, numbers


class FuseConvBN(Rewrite):
    """conv or linear → batch norm is one conv or linear with scaled weights and another bias."""

    # Folding reorders float32 products; the largest output moves by a few roundings.
    name, stage, equal = "fuse-conv-bn", "optimize", Close(rtol=1e-5)

    def match(self, p, x, w, b, gamma, beta, mean, var):
        inner = p.one_of(("conv", "linear"), x, w, b, name="conv")
        return p.batch_norm(inner, gamma, beta, mean, var, name="bn")

    def check(self, m):
        conv, bn = m["conv"], m["bn"]
        channels = conv.result.type.rank - 1 if conv.kind == "linear" or conv.attrs["channel_last"] else 1
        if bn.attrs["axis"] != channels:
            return m.no("normalises another axis than the channels")
        for v in (m.w, m.b, m.gamma, m.beta, m.mean, m.var):
            if not numbers(v):
                return m.no("a weight is computed at run time or quantized", v)
        return True

    def build(self, g, m):
        eps = m["bn"].attrs["eps"]
        norm = (m.gamma, m.beta, m.mean, m.var)
        w = g.derived(f"{m.w.name}.bn", f"w*bn{eps}", m.w.type, _weight(eps), m.w, *norm)
        bias = Tensor(m.w.type.dtype, (m.w.type.shape[0],))
        sources = norm if m.b is None else (*norm, m.b)
        b = g.derived(f"{m.w.name}.bn.bias", f"b*bn{eps}", bias, _bias(eps), *sources)
        with g.at(m["conv"].loc.through(self.name)):
            return g.emit(m["conv"].kind, (m.x, w, b), m["conv"].attrs)


def _scale(gamma, var, eps):
    return gamma.astype(np.float64) / np.sqrt(var.astype(np.float64) + eps)


def _weight(eps):
    return lambda w, gamma, beta, mean, var: (
        w * _scale(gamma, var, eps).reshape(-1, *[1] * (w.ndim - 1))
    ).astype(w.dtype)  # fmt: skip


def _bias(eps):
    def compute(gamma, beta, mean, var, b=0.0):
        return ((b - mean.astype(np.float64)) * _scale(gamma, var, eps) + beta).astype(gamma.dtype)

    return compute


class SplitBN(Rewrite):
    """A batch norm that could not be folded is a multiplication and an addition per channel."""

    name, stage, equal = "split-bn", "optimize", Close(rtol=1e-5)

    def match(self, p, x, gamma, beta, mean, var):
        return p.batch_norm(x, gamma, beta, mean, var, name="bn")

    def check(self, m):
        if not all(map(numbers, (m.gamma, m.beta, m.mean, m.var))):
            return m.no("statistics are computed at run time or quantized")
        return True

    def build(self, g, m):
        bn, norm, n = m["bn"], (m.gamma, m.beta, m.mean, m.var), m.gamma.type.sizes[0]
        eps, rank = bn.attrs["eps"], m.x.type.rank
        shape = tuple(n if i == bn.attrs["axis"] else 1 for i in range(rank))
        type = Tensor(m.gamma.type.dtype, shape)

        def scale(gamma, beta, mean, var):
            return _scale(gamma, var, eps).astype(gamma.dtype).reshape(shape)

        def shift(gamma, beta, mean, var):
            return _bias(eps)(gamma, beta, mean, var).reshape(shape)

        name = m.gamma.name or bn.loc.path
        a = g.derived(f"{name}.scale", f"scale{eps}{shape}", type, scale, *norm)
        b = g.derived(f"{name}.shift", f"shift{eps}{shape}", type, shift, *norm)
        return g.add(g.mul(m.x, a), b)

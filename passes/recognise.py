"""Recognise activations and norms that a framework spelled out: SiLU, GELU, layer norm, RMS norm, log-softmax."""

from __future__ import annotations

import math

from ..ir.graph import Graph, Value
from .base import Close, Context, Pass
from .rewrite import Rewrite, drive, number_of, numbers


class Recognise(Pass):
    """Turn spelled-out formulas into the one op that targets have kernels for."""

    # The same formula in another order of rounding.
    name, stage, equal = "recognise", "optimize", Close(rtol=1e-5)

    def run(self, graph: Graph, context: Context) -> None:
        drive(graph, [formula() for formula in FORMULAS], context)


class _Formula(Rewrite):
    """One formula; they report under the name of the pass."""


_Formula.name = Recognise.name
FORMULAS: list[type[Rewrite]] = []


def _formula(cls: type[Rewrite]) -> type[Rewrite]:
    FORMULAS.append(cls)
    return cls


@_formula
class Silu(_Formula):
    """x * sigmoid(x)."""

    def match(self, p, x):
        return p.mul(x, p.sigmoid(x))

    def build(self, g, m):
        return g.silu(m.x)


@_formula
class Sigmoid(_Formula):
    """1 / (1 + exp(-x))."""

    def match(self, p, x):
        bottom = p.add(p.exp(p.neg(x)), 1)
        return [p.div(1, bottom), p.reciprocal(bottom)]

    def build(self, g, m):
        return g.sigmoid(m.x)


@_formula
class Gelu(_Formula):
    """x/2 * (1 + erf(x/√2)), its factors in any order (Hendrycks and Gimpel 2016)."""

    def match(self, p, x):
        inner = [p.mul(x, math.sqrt(0.5)), p.div(x, math.sqrt(2))]
        wholes = [p.add(p.erf(i), 1) for i in inner]
        return [f for w in wholes for f in _half_of_product(p, x, w)]

    def build(self, g, m):
        return g.gelu(m.x)


@_formula
class TanhGelu(_Formula):
    """x/2 * (1 + tanh(√(2/π) (x + 0.044715 x³)))."""

    def match(self, p, x):
        cubes = [p.pow(x, 3), p.mul(p.mul(x, x), x)]
        bodies = [p.mul(p.add(x, p.mul(c, 0.044715)), math.sqrt(2 / math.pi)) for c in cubes]
        return [f for b in bodies for f in _half_of_product(p, x, p.add(p.tanh(b), 1))]

    def build(self, g, m):
        return g.gelu(m.x, tanh=True)


def _half_of_product(p, x, y):
    """x * y / 2 in every order."""
    yield p.mul(p.mul(x, 0.5), y)
    yield p.mul(p.mul(x, y), 0.5)
    yield p.mul(p.mul(y, 0.5), x)
    yield p.div(p.mul(x, y), 2)
    yield p.mul(p.div(x, 2), y)


@_formula
class LayerNorm(_Formula):
    """(x - mean) / √(variance + eps) over the last axis, where the mean and the variance are spelled out."""

    def match(self, p, x, eps):
        centred = p.sub(x, p.mean(x, keepdims=True, name="mean"), shared=True, name="centred")
        squares = [p.mul(centred, centred), p.pow(centred, 2)]
        spreads = [p.add(p.mean(square, keepdims=True, name="variance"), eps) for square in squares]
        return [f for s in spreads for f in (p.div(centred, p.sqrt(s)), p.mul(centred, p.rsqrt(s)))]

    def check(self, m):
        last = (m.x.type.rank - 1,)
        if m["mean"].attrs["axes"] != last or m["variance"].attrs["axes"] != last:
            return m.no("normalises other axes than the last")
        return number_of(m.eps) is not None or m.no("eps is computed at run time", m.eps)

    def build(self, g, m):
        return g.layer_norm(m.x, None, None, axis=m.x.type.rank - 1, eps=number_of(m.eps))


@_formula
class RmsNorm(_Formula):
    """x / √(mean of squares + eps) over the last axis."""

    def match(self, p, x, eps):
        spreads = [p.add(p.mean(sq, keepdims=True, name="mean"), eps) for sq in (p.mul(x, x), p.pow(x, 2))]
        return [f for s in spreads for f in (p.div(x, p.sqrt(s)), p.mul(x, p.rsqrt(s)))]

    def check(self, m):
        if m["mean"].attrs["axes"] != (m.x.type.rank - 1,):
            return m.no("normalises other axes than the last")
        return number_of(m.eps) is not None or m.no("eps is computed at run time", m.eps)

    def build(self, g, m):
        return g.rms_norm(m.x, None, eps=number_of(m.eps))


@_formula
class NormScale(_Formula):
    """A norm without scale, times a vector over its last axis."""

    def match(self, p, x, w):
        return [p.mul(p.layer_norm(x, None, None, name="norm"), w), p.mul(p.rms_norm(x, None, name="norm"), w)]

    def check(self, m):
        return _is_row(m.w, m.x)

    def build(self, g, m):
        rest = (m.w, None) if m["norm"].kind == "layer_norm" else (m.w,)
        return g.emit(m["norm"].kind, (m.x, *rest), m["norm"].attrs)


@_formula
class NormShift(_Formula):
    """A layer norm with scale but without shift, plus a vector over its last axis."""

    def match(self, p, x, w, b):
        return p.add(p.layer_norm(x, w, None, name="norm"), b)

    def check(self, m):
        return m.w is not None and _is_row(m.b, m.x)

    def build(self, g, m):
        return g.layer_norm(m.x, m.w, m.b, **m["norm"].attrs)


def _is_row(v: Value, x: Value) -> bool:
    return v.known and v.type.sizes == x.type.sizes[-1:] and isinstance(x.type.sizes[-1], int)


@_formula
class LinearBias(_Formula):
    """A matrix product with a weight, plus a vector of its outputs, is linear with a bias."""

    def match(self, p, x, w, b):
        return p.add(p.linear(x, w, None), b)

    def check(self, m):
        return m.b.known and m.b.type.sizes == m.w.type.sizes[:1]

    def build(self, g, m):
        return g.linear(m.x, m.w, m.b)


@_formula
class MatmulWeight(_Formula):
    """A matrix product with a known matrix on the right is linear."""

    def match(self, p, x, w):
        return p.matmul(x, w)

    def check(self, m):
        return numbers(m.w) and m.w.type.rank == 2

    def build(self, g, m):
        n = m.w.type.shape
        w = g.derived(f"{m.w.name}.T", "T", m.w.type.with_(shape=(n[1], n[0])), lambda w: w.T, m.w)
        return g.linear(m.x, w, None)


@_formula
class PowerOfMagnitude(_Formula):
    """√(a² + b²) squared is a² + b²: the power of a spectrum whose magnitude was asked for first."""

    def match(self, p, a, b):
        power = p.add(p.mul(a, a), p.mul(b, b), name="power")
        magnitude = p.sqrt(power)
        return [p.mul(magnitude, magnitude), p.pow(magnitude, 2)]

    def build(self, g, m):
        return m["power"].result


@_formula
class LogSoftmax(_Formula):
    """log(softmax(x))."""

    def match(self, p, x):
        return p.log(p.softmax(x, name="softmax"))

    def build(self, g, m):
        return g.log_softmax(m.x, axis=m["softmax"].attrs["axis"])

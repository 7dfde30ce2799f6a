"""Ops that treat every element alone: arithmetic, comparison, activation."""

from __future__ import annotations

import math

import numpy as np

from ..errors import IRError
from ..registry import op
from ..types import DTYPES, FLOATS, Tensor, broadcast

_AT = np.arange(6 * 512 + 1) / 512  # beyond 6, erf is 1 in float64
_ERF, _SLOPE = np.array([math.erf(a) for a in _AT]), 2 / math.sqrt(math.pi) * np.exp(-(_AT**2))


def _erf(x: np.ndarray) -> np.ndarray:
    """erf in float64, to its last bit or two: five terms of the Taylor series around the nearest point of `_AT`."""
    size = np.minimum(np.abs(np.where(np.isnan(x), 0, x).astype(np.float64)), _AT[-1])
    near = np.rint(size * 512).astype(np.int32)
    a, h = _AT[near], size - _AT[near]
    series = 1 + h * (
        -a + h * ((2 * a**2 - 1) / 3 + h * (a * (3 - 2 * a**2) / 6 + h * (4 * a**4 - 12 * a**2 + 3) / 30))
    )
    return np.where(np.isnan(x), x, np.copysign(_ERF[near] + h * _SLOPE[near] * series, x))


def _float(x: Tensor) -> Tensor:
    if x.dtype not in FLOATS:
        raise IRError(f"wants floating point, got {x.dtype}")
    return x


def _unary(name: str, doc: str, meaning, check=_float):
    """Define an op of one operand whose result has its type."""

    def function(x):
        return meaning(x)

    function.__name__, function.__doc__, function.__module__ = name, doc, __name__
    op(name)(function).rule(check)


def _same(x: Tensor) -> Tensor:
    return x


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


for _name, _doc, _meaning in [
    ("exp", "e to the power of x.", np.exp),
    ("log", "Natural logarithm.", np.log),
    ("sqrt", "Square root.", np.sqrt),
    ("rsqrt", "1 / square root.", lambda x: 1 / np.sqrt(x)),
    ("reciprocal", "1 / x.", lambda x: 1 / x),
    ("sin", "Sine (radians).", np.sin),
    ("cos", "Cosine (radians).", np.cos),
    ("tanh", "Hyperbolic tangent.", np.tanh),
    ("sigmoid", "1 / (1 + e^-x).", _sigmoid),
    ("silu", "x * sigmoid(x), also called swish.", lambda x: x * _sigmoid(x)),
    ("erf", "Gauss error function.", lambda x: _erf(x).astype(x.dtype)),
    ("softplus", "log(1 + e^x).", lambda x: np.logaddexp(x, 0)),
    ("floor", "The largest whole number not above x.", np.floor),
    ("ceil", "The smallest whole number not below x.", np.ceil),
    ("round", "The nearest whole number, ties to even.", np.rint),
]:
    _unary(_name, _doc, _meaning)

for _name, _doc, _meaning in [
    ("neg", "-x.", np.negative),
    ("abs", "|x|.", np.abs),
    ("sign", "-1, 0 or 1.", np.sign),
    ("relu", "max(x, 0).", lambda x: np.maximum(x, x.dtype.type(0))),
]:
    _unary(_name, _doc, _meaning, _same)


@op
def gelu(x, *, tanh=False):
    """x * Φ(x) (Hendrycks and Gimpel 2016); `tanh`: its approximation 0.5x(1 + tanh(√(2/π)(x + 0.044715x³)))."""
    if tanh:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)).astype(x.dtype))


@gelu.rule
def _(x, *, tanh):
    return _float(x)


@op
def leaky_relu(x, *, slope=0.01):
    """x where positive, `slope` * x elsewhere."""
    return np.where(x >= 0, x, x * slope).astype(x.dtype)


@leaky_relu.rule
def _(x, *, slope):
    return _float(x)


@op
def elu(x, *, alpha=1.0):
    """x where positive, `alpha` * (e^x - 1) elsewhere (Clevert et al. 2015)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype)


@elu.rule
def _(x, *, alpha):
    return _float(x)


def _binary(name: str, doc: str, meaning, result: str | None = None, only: tuple[str, ...] = ()):
    """Define an op of two operands of one element type, broadcast as numpy does."""

    def function(a, b):
        return meaning(a, b)

    def rule(a, b):
        if a.dtype != b.dtype:
            raise IRError(f"element types differ: {a.dtype} and {b.dtype}", hints=["cast one of them"])
        if only and a.dtype not in only:
            raise IRError(f"wants {' or '.join(only)}, got {a.dtype}")
        return Tensor(result or a.dtype, broadcast(a.shape, b.shape))

    function.__name__, function.__doc__, function.__module__ = name, doc, __name__
    op(name)(function).rule(rule)


for _name, _doc, _meaning in [
    ("add", "a + b.", np.add),
    ("sub", "a - b.", np.subtract),
    ("mul", "a * b.", np.multiply),
    ("minimum", "The smaller of a and b.", np.minimum),
    ("maximum", "The larger of a and b.", np.maximum),
    ("pow", "a to the power of b.", np.power),
    ("mod", "What is left of a divided by b, with the sign of b.", np.mod),
    ("floor_div", "a / b, rounded down.", np.floor_divide),
]:
    _binary(_name, _doc, _meaning)
_binary("div", "a / b.", np.divide, only=FLOATS)
for _name, _doc, _meaning in [
    ("equal", "Whether a = b.", np.equal),
    ("less", "Whether a < b.", np.less),
    ("less_equal", "Whether a <= b.", np.less_equal),
]:
    _binary(_name, _doc, _meaning, result="bool")
_binary("logical_and", "a and b.", np.logical_and, only=("bool",))
_binary("logical_or", "a or b.", np.logical_or, only=("bool",))


@op
def logical_not(x):
    """not x."""
    return np.logical_not(x)


@logical_not.rule
def _(x):
    if x.dtype != "bool":
        raise IRError(f"wants bool, got {x.dtype}")
    return x


@op
def where(condition, a, b):
    """a where `condition`, b elsewhere, broadcast."""
    return np.where(condition, a, b)


@where.rule
def _(condition, a, b):
    if condition.dtype != "bool" or a.dtype != b.dtype:
        raise IRError("wants a bool condition and two values of one element type")
    return Tensor(a.dtype, broadcast(condition.shape, a.shape, b.shape))


@op
def cast(x, *, dtype):
    """x with another element type; floating point to integer drops the fraction, anything non-zero is true."""
    return x.astype(DTYPES[dtype])


@cast.rule
def _(x, *, dtype):
    return x.with_(dtype=dtype)

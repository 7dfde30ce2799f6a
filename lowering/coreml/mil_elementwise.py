"""MIL's ops that work element by element: arithmetic, comparison, logic, activations, selection, casts."""

from __future__ import annotations

import math

import numpy as np

from .mil_file import TYPES
from .mil_table import Refused, mil

_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x):
    return _erf(x).astype(x.dtype) if x.size else x


def sigmoid(x):
    """1 / (1 + e^-x) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


UNARY = {
    "abs": np.abs, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh, "ceil": np.ceil,
    "cos": np.cos, "cosh": np.cosh, "erf": erf, "exp": np.exp, "exp2": np.exp2, "floor": np.floor,
    "logical_not": np.logical_not, "round": np.round, "sign": np.sign, "sin": np.sin, "sinh": np.sinh,
    "sqrt": np.sqrt, "square": np.square, "tan": np.tan, "tanh": np.tanh, "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0), "relu6": lambda x: np.clip(x, 0, 6), "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x), "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
}  # fmt: skip
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
    "pow": np.power, "mod": np.mod, "floor_div": np.floor_divide,
}  # fmt: skip
RELATIONS = {
    "equal": np.equal, "not_equal": np.not_equal, "greater": np.greater, "greater_equal": np.greater_equal,
    "less": np.less, "less_equal": np.less_equal, "logical_and": np.logical_and, "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}  # fmt: skip


def _unary(function):
    return lambda x: function(x)


def _binary(function):
    return lambda x, y: function(x, y)


for _name, _function in UNARY.items():
    mil(_name)(_unary(_function))
for _name, _function in BINARY.items():
    mil(_name, alike=("x", "y"))(_binary(_function))
for _name, _function in RELATIONS.items():
    mil(_name, gives="=bool", alike=("x", "y"))(_binary(_function))


@mil("real_div", alike=("x", "y"))
def real_div(x, y):
    """x / y; of integers, the quotient cut to an integer (towards zero), since the result is an integer too."""
    return np.trunc(x / y).astype(x.dtype) if x.dtype.kind in "iu" else x / y


@mil("log")
def log(x, epsilon=1e-45):
    return np.log(x + epsilon)


@mil("inverse")
def inverse(x, epsilon=1e-4):
    return 1 / (x + epsilon)


@mil("rsqrt")
def rsqrt(x, epsilon=1e-12):
    return 1 / np.sqrt(x + epsilon)


@mil("threshold")
def threshold(x, alpha):
    return np.maximum(x, alpha)


@mil("clip")
def clip(x, alpha, beta):
    return np.clip(x, alpha, beta)


@mil("cast", gives="@dtype", moves=True)
def cast(x, dtype):
    """Floats become integers by cutting towards zero; anything but zero is true."""
    return x.astype(TYPES[dtype.lower()][1])


@mil("select", gives="a", alike=("a", "b"), moves=True)
def select(cond, a, b):
    return np.where(cond, a, b)


# Activations with parameters


@mil("leaky_relu")
def leaky_relu(x, alpha):
    return np.where(x < 0, x * alpha, x)


@mil("prelu")
def prelu(x, alpha):
    """alpha: [C], one a channel of x: [B, C, ...]."""
    return np.where(x < 0, x * _channels(alpha, x), x)


@mil("elu")
def elu(x, alpha):
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


@mil("clamped_relu")
def clamped_relu(x, alpha, beta):
    return np.minimum(np.where(x < 0, x * alpha, x), beta)


@mil("thresholded_relu")
def thresholded_relu(x, alpha):
    return np.where(x < alpha, 0, x).astype(x.dtype)


@mil("linear_activation")
def linear_activation(x, alpha, beta):
    return alpha * x + beta


@mil("scaled_tanh")
def scaled_tanh(x, alpha, beta):
    return alpha * np.tanh(beta * x)


@mil("sigmoid_hard")
def sigmoid_hard(x, alpha, beta):
    return np.clip(alpha * x + beta, 0, 1)


@mil("softplus_parametric")
def softplus_parametric(x, alpha, beta):
    y = x * _channels(beta, x)
    return _channels(alpha, x) * (np.log1p(np.exp(-np.abs(y))) + np.maximum(y, 0))


@mil("gelu")
def gelu(x, mode="EXACT"):
    return _pick(GELU, mode)(x)


GELU = {
    "EXACT": lambda x: 0.5 * x * (1 + erf(x / np.float32(math.sqrt(2)))),
    "TANH_APPROXIMATION": lambda x: 0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + 0.044715 * x**3))),
    "SIGMOID_APPROXIMATION": lambda x: x * sigmoid(1.702 * x),
}


def _channels(vector, x):
    return vector.reshape(-1, *(1,) * (x.ndim - 2))


def _pick(choices, name):
    if name not in choices:
        raise Refused(f"{name} is not one of {', '.join(choices)}")
    return choices[name]

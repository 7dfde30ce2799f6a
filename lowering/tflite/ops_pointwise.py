"""Arithmetic, comparisons and activations."""

from __future__ import annotations

import math

import numpy as np

from ...ir.graph import Op
from .body import T, broadcast, same_sizes
from .ops_linear import fused_relu
from .registry import lower, refuse

UNARY = {
    "exp": "EXP", "log": "LOG", "sqrt": "SQRT", "rsqrt": "RSQRT", "sin": "SIN", "cos": "COS", "tanh": "TANH",
    "sigmoid": "LOGISTIC", "floor": "FLOOR", "ceil": "CEIL", "round": "ROUND", "neg": "NEG", "relu": "RELU",
    "logical_not": "LOGICAL_NOT",
}  # fmt: skip

ARITHMETIC = ("add", "sub", "mul")
BINARY = {
    "add": "ADD", "sub": "SUB", "mul": "MUL", "div": "DIV", "minimum": "MINIMUM", "maximum": "MAXIMUM", "pow": "POW",
    "mod": "FLOOR_MOD", "floor_div": "FLOOR_DIV", "equal": "EQUAL", "less": "LESS", "less_equal": "LESS_EQUAL",
    "logical_and": "LOGICAL_AND", "logical_or": "LOGICAL_OR",
}  # fmt: skip


@lower(*UNARY, integer=("relu", "tanh", "sigmoid"))
def unary(e, op: Op, x: T) -> T:
    if op.kind in ("relu", "neg") and x.dtype == "i32":
        return e.maximum(x, 0) if op.kind == "relu" else e.sub(e.scalar(0, "i32"), x)
    return e.unary(UNARY[op.kind], x, quant=e.out_quant(op))


@refuse("tanh", "sigmoid", "softmax")
def fixed_scale(op: Op) -> str | None:
    """TFLite's integer kernels of these write one fixed scale."""
    wanted = {"tanh": (1 / 128, 0), "sigmoid": (1 / 256, -128), "softmax": (1 / 256, -128)}[op.kind]
    out = op.attrs.get("out")
    if out and op.operands[0].type.quant and (abs(out[1] / wanted[0] - 1) > 1e-6 or out[2] != wanted[1]):
        return f"its integer kernel gives scale {wanted[0]}, zero point {wanted[1]} only (asked for {out[1:]})"
    return None


@lower("abs")
def absolute(e, op: Op, x: T) -> T:
    return e.unary("ABS", x) if x.dtype == "f32" else e.maximum(x, e.sub(e.scalar(0, "i32"), x))


@lower("sign")
def sign(e, op: Op, x: T) -> T:
    if x.dtype == "i32":
        return e.minimum(e.maximum(x, -1), 1)
    return e.unary("SIGN", x)


@lower("reciprocal")
def reciprocal(e, op: Op, x: T) -> T:
    return e.binary("DIV", e.scalar(1.0), x)


@lower("silu", integer=())
def silu(e, op: Op, x: T) -> T:
    return e.mul(x, e.unary("LOGISTIC", x))


@lower("softplus")
def softplus(e, op: Op, x: T) -> T:
    """max(x, 0) + log(1 + e^-|x|)."""
    tail = e.unary("LOG", e.add(e.unary("EXP", e.unary("NEG", e.unary("ABS", x))), 1.0))
    return e.add(e.maximum(x, 0.0), tail)


@lower("gelu")
def gelu(e, op: Op, x: T) -> T:
    return e.unary("GELU", x, approximate=op.attrs["tanh"])


@lower("erf")
def erf(e, op: Op, x: T) -> T:
    """By way of GELU, as TFLite has no ERF: erf(y) = ±(2 gelu(t) / t - 1), t = √2 |y|; absolute error below 1e-6."""
    size = e.unary("ABS", x)
    t = e.minimum(e.maximum(e.mul(size, math.sqrt(2)), 1e-12), 10.0)
    half = e.div(e.unary("GELU", t, approximate=False), t)
    value = e.sub(e.add(half, half), 1.0)
    return e.mul(value, e.div(x, e.maximum(size, 1e-30)))


@lower("leaky_relu", integer=True)
def leaky_relu(e, op: Op, x: T) -> T:
    return e.unary("LEAKY_RELU", x, quant=e.out_quant(op), alpha=op.attrs["slope"])


@lower("elu")
def elu(e, op: Op, x: T) -> T:
    alpha = op.attrs["alpha"]
    if alpha == 1:
        return e.unary("ELU", x)
    low = e.mul(e.sub(e.unary("EXP", e.minimum(x, 0.0)), 1.0), alpha)
    return e.add(e.maximum(x, 0.0), low)


@lower(*BINARY, integer=ARITHMETIC, activates=ARITHMETIC)
def binary(e, op: Op, a: T, b: T) -> T:
    a, b = unexpanded(op.result.type.sizes, a, b)
    dtype = "bool" if op.result.type.dtype == "bool" else None
    if op.kind in ("logical_and", "logical_or"):
        return e.binary(BINARY[op.kind], a, b)
    if op.kind == "equal" and a.dtype == "bool":
        a, b = e.cast(a, "i32"), e.cast(b, "i32")
    if op.kind == "pow":
        return power(e, a, b)
    quant = e.out_quant(op)
    if quant is not None:
        a, b = (quantized_scalar(e, t) for t in (a, b))
    if op.kind in ARITHMETIC and a.dtype != "i32":
        return e.binary(BINARY[op.kind], a, b, quant=quant, fusedActivationFunction=fused_relu(e, op))
    y = e.binary(BINARY[op.kind], a, b, dtype)
    return e.maximum(y, 0) if op.attrs.get("then") else y


def quantized_scalar(e, t: T) -> T:
    """A float literal as int8: the code 127 (or -127) with the scale that makes it exact."""
    if t.quant is not None:
        return t
    from ...ir.types import Quant

    number = float(t.array.reshape(-1)[0])
    code = 0 if number == 0 else math.copysign(127, number)
    scale = abs(number) / 127 or 1.0
    return e.const(np.full(t.array.shape, code, np.int8), quant=Quant(float(np.float32(scale)), 0))


def unexpanded(sizes, *operands: T) -> tuple[T, ...]:
    """Operands before `expand` repeated them, where broadcasting gives the same result."""
    chosen = list(operands)
    for i, t in enumerate(operands):
        if t.unexpanded is not None:
            tried = [*chosen[:i], t.unexpanded, *chosen[i + 1 :]]
            total = ()
            for x in tried:
                total = broadcast(total, x.sizes)
            if same_sizes(total, sizes):
                chosen = tried
    return tuple(chosen)


POWERS = {2.0: "SQUARE", 0.5: "SQRT", -0.5: "RSQRT"}


def power(e, a: T, b: T) -> T:
    """POW, or a faster operator for the usual exponents."""
    exponent = float(b.array.reshape(-1)[0]) if b.array is not None and b.array.size == 1 else None
    if exponent is None or a.dtype != "f32" or b.rank > a.rank:
        return e.binary("POW", a, b)
    if exponent in POWERS:
        return e.unary(POWERS[exponent], a)
    if exponent in (3.0, 4.0):
        square = e.unary("SQUARE", a)
        return e.mul(square, a if exponent == 3 else square)
    return a if exponent == 1 else e.binary("POW", a, b)


@lower("where")
def where(e, op: Op, condition: T, a: T, b: T) -> T:
    condition, a, b = unexpanded(op.result.type.sizes, condition, a, b)
    sizes = broadcast(condition.sizes, broadcast(a.sizes, b.sizes))
    return e.op("SELECT_V2", [condition, a, b], a.dtype, sizes)


@lower("cast")
def cast(e, op: Op, x: T) -> T:
    wanted = {"i64": "i32"}.get(op.attrs["dtype"], op.attrs["dtype"])
    if x.dtype == "f16" and x.array is not None:
        return e.widen(x)
    if wanted == "bool" and x.dtype != "bool":
        zero = e.scalar(0, x.dtype)
        return e.unary("LOGICAL_NOT", e.binary("EQUAL", x, zero, "bool"))
    return e.cast(x, wanted)

"""Pointwise ops."""

from __future__ import annotations

import math

from ...ir.types import FLOATS
from .lower import lower

ONE_NODE = {
    "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "sin": "Sin", "cos": "Cos",
    "tanh": "Tanh", "sigmoid": "Sigmoid", "erf": "Erf", "softplus": "Softplus", "floor": "Floor", "ceil": "Ceil",
    "round": "Round", "neg": "Neg", "abs": "Abs", "sign": "Sign", "add": "Add", "sub": "Sub", "mul": "Mul",
    "div": "Div", "minimum": "Min", "maximum": "Max", "pow": "Pow", "equal": "Equal", "less": "Less",
    "less_equal": "LessOrEqual", "logical_and": "And", "logical_or": "Or", "logical_not": "Not",
}  # fmt: skip


@lower(*ONE_NODE)
def _(e, kind, *operands):
    return e.node(ONE_NODE[kind], operands)


@lower("relu")
def _(e, x):
    return e.node("Relu", [x]) if x.type.dtype in FLOATS else e.node("Max", [x, e.number(0, x)])


@lower("rsqrt")
def _(e, x):
    return e.node("Reciprocal", [e.node("Sqrt", [x])])


@lower("silu")
def _(e, x):
    return e.node("Mul", [x, e.node("Sigmoid", [x])])


@lower("gelu")
def _(e, x, *, tanh):
    """Spelled out in the order that onnxruntime's GeluFusion and FastGeluFusion look for."""
    half, one = e.number(0.5, x), e.number(1, x)
    if tanh:
        # onnxruntime's FastGelu refuses scalars: there the pattern is hidden from its fusion.
        fused = x.type.rank > 0
        power = e.node("Pow", [x, e.number(3, x)]) if fused else e.node("Mul", [e.node("Mul", [x, x]), x])
        cube = e.node("Mul", [power, e.number(0.044715, x)])
        inner = e.node("Mul", [e.node("Add", [x, cube]), e.number(math.sqrt(2 / math.pi), x)])
        return e.node("Mul", [e.node("Mul", [x, half]), e.node("Add", [e.node("Tanh", [inner]), one])])
    cdf = e.node("Add", [e.node("Erf", [e.node("Div", [x, e.number(math.sqrt(2), x)])]), one])
    return e.node("Mul", [e.node("Mul", [x, cdf]), half])


@lower("leaky_relu")
def _(e, x, *, slope):
    return e.node("LeakyRelu", [x], alpha=float(slope))


@lower("elu")
def _(e, x, *, alpha):
    return e.node("Elu", [x], alpha=float(alpha))


@lower("mod")
def _(e, a, b):
    if a.type.dtype not in FLOATS:
        return e.node("Mod", [a, b])  # the sign of b
    rest = e.node("Mod", [a, b], fmod=1)  # the sign of a; ONNX has no other form for floats
    turned = e.node("Less", [e.node("Mul", [rest, b]), e.number(0, a)])
    return e.node("Where", [turned, e.node("Add", [rest, b]), rest])


@lower("floor_div")
def _(e, a, b):
    whole = e.node("Div", [e.node("Sub", [a, e.table["mod"].build(e, a, b)]), b])
    return e.node("Round", [whole]) if a.type.dtype in FLOATS else whole


@lower("where")
def _(e, condition, a, b):
    if a.type.dtype != "bool":
        return e.node("Where", [condition, a, b])
    left = e.node("And", [condition, a])  # onnxruntime's Where has no bool kernel
    return e.node("Or", [left, e.node("And", [e.node("Not", [condition]), b])])


@lower("cast")
def _(e, x, *, dtype):
    if x.type.dtype == dtype:
        return e.node("Identity", [x])
    return e.node("Cast", [x], to=int(e.tensor_type(dtype).dtype))

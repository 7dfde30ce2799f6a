"""The op `snake`: its meaning, its types, how it streams, and what it is in each of the other targets."""

import numpy as np
from speechc.ir.errors import IRError
from speechc.ir.registry import op
from speechc.ir.types import FLOATS, broadcast
from speechc.lowering.coreml.lower import lower as coreml
from speechc.lowering.onnx.lower import lower as onnx
from speechc.lowering.tflite.registry import lower as tflite
from speechc.passes.stream.framewise import framewise
from speechc.passes.stream.rules import rule


@op(family="pointwise")
def snake(x, alpha):
    """x + sin²(αx) / α, an activation that repeats itself (Ziyin et al. 2020); alpha broadcasts to x."""
    return x + np.sin(alpha * x) ** 2 / alpha


@snake.rule
def _(x, alpha):
    if x.dtype not in FLOATS or alpha.dtype != x.dtype:
        raise IRError("wants two operands of one floating-point type")
    if len(broadcast(x.shape, alpha.shape)) != x.rank or broadcast(x.shape, alpha.shape) != x.shape:
        raise IRError(f"alpha {alpha} does not broadcast to {x}")
    return x


rule("snake")(framewise)  # every frame alone: no delay, no state


@onnx("snake")  # TensorRT's too
def _(e, x, alpha):
    wave = e.node("Sin", [e.node("Mul", [x, alpha])])
    return e.node("Add", [x, e.node("Div", [e.node("Mul", [wave, wave]), alpha])])


@tflite("snake")
def _(e, op, x, alpha):
    wave = e.unary("SIN", e.mul(x, alpha))
    return e.add(x, e.div(e.mul(wave, wave), alpha))


@coreml("snake")
def _(e, x, alpha):
    wave = e.op("sin", x=e.op("mul", x=x, y=alpha))
    return e.op("add", x=x, y=e.op("real_div", x=e.op("mul", x=wave, y=wave), y=alpha))

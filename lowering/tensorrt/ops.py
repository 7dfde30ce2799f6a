"""Lowerings that differ from ONNX's: float biases, dense kernels, no dilated windows, half-precision scales."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Op, Value
from ...ir.types import DTYPES, Tensor
from ...ir.weights import Weight
from ..onnx.lower import BASE_OPSET
from ..onnx.lower import load_all as load_onnx
from ..onnx.ops_linear import _known_pads, _pads, transposed
from ..onnx.ops_quant import dequantized, weight_behind
from ..onnx.ops_shape import padded, sliced
from .lower import lower

HALF_SCALES = 19  # the opset whose QuantizeLinear and DequantizeLinear take float16


@lower("linear")
def _(e, x, w, b):
    y = e.node("MatMul", [x, _matrix(e, w)])
    return y if b is None else e.node("Add", [y, b])


def _matrix(e, w: Value):
    """The weight as [inputs, outputs], stored so; codes that are cast behind their scales are codes all the same."""
    cast = w.op is not None and w.op.kind == "cast"
    stored = weight_behind(w.op.operands[0]) if cast else None
    return transposed(e, w) if stored is None else dequantized(e, stored, w.type.dtype, transpose=True)


@lower("conv")
def _(e, x, w, b, *, stride, dilation, pad, groups, channel_last):
    x, pad = _known_pads(e, x, pad)
    return e.node(
        "Conv", [x, w, *([] if b is None else [b])], strides=list(stride), dilations=list(dilation), pads=_pads(pad),
        group=groups, kernel_shape=list(w.type.sizes[2:]),
    )  # fmt: skip


@lower("conv_transpose")
def _(e, x, w, b, *, dilation, **attrs):
    """A dilated kernel is written out with its zeros: TensorRT has no dilated transposed convolution."""
    if any(d > 1 for d in dilation):
        w = _dense(w, dilation)
    return load_onnx()["conv_transpose"].build(e, x, w, b, dilation=(1,) * len(dilation), **attrs)


def _dense(w: Value, dilation) -> Value:
    """The kernel `w` with `dilation - 1` zeros between its taps."""
    outer, taps = w.type.sizes[:2], w.type.sizes[2:]
    shape = (*outer, *((k - 1) * d + 1 for k, d in zip(taps, dilation)))

    def spread() -> np.ndarray:
        dense = np.zeros(shape, w.array.dtype)
        dense[(..., *(slice(None, None, d) for d in dilation))] = w.array
        return dense

    weight = Weight(f"{w.name}.dense", Tensor(w.type.dtype, shape), spread)
    return Value("weight", weight.type, weight.name, payload=weight)


@lower("max_pool")
def _(e, x, *, kernel, stride, pad, dilation, channel_last):
    """A dilated window is the largest of one slice a tap: TensorRT's pooling is dense."""
    if all(d == 1 for d in dilation):
        attrs = {"kernel": kernel, "stride": stride, "pad": pad, "dilation": dilation, "channel_last": channel_last}
        return load_onnx()["max_pool"].build(e, x, **attrs)
    y, sizes = x, list(x.type.sizes)
    if any(map(any, pad)):
        y = padded(e, x, [(0, 0), (0, 0), *pad], "constant", -np.inf)
        sizes[2:] = [s + p + q for s, (p, q) in zip(sizes[2:], pad)]
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation)):
        axis, count = 2 + i, e.op.result.type.sizes[2 + i]
        span = (count - 1) * s + 1
        taps = [sliced(e, y, sizes[axis], axis, t * d, t * d + span, s) for t in range(k)]
        y, sizes[axis] = taps[0] if k == 1 else e.node("Max", taps), count
    return y


@lower("lstm", "gru", "rnn")
def _(e, kind, *operands, **attrs):
    """Weights that were narrowed for the file are constants again: TensorRT's builder fails on casts around a loop."""
    return load_onnx()[kind].build(e, *(_widened(v) for v in operands), **attrs)


def _widened(v: Value | None) -> Value | None:
    """A weight that is cast, as a weight of the other type."""
    source = v.op.operands[0] if v is not None and v.op is not None and v.op.kind == "cast" else None
    if source is None or source.kind != "weight" or source.type.quant is not None:
        return v
    dtype = DTYPES[v.type.dtype]
    weight = Weight(f"{source.name}.{v.type.dtype}", v.type, lambda: source.array.astype(dtype))
    return Value("weight", weight.type, weight.name, payload=weight)


def _half_scales(op: Op) -> int:
    half = any(v.type.dtype == "f16" for v in (*op.operands, *op.results))
    return HALF_SCALES if half else BASE_OPSET


@lower("quantize", "dequantize", opset=_half_scales)
def _(e, kind, *operands, **attrs):
    return load_onnx()[kind].build(e, *operands, **attrs)

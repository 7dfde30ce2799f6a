"""What TensorRT can express, decided from kinds, attributes and types alone: ONNX's table, and what its parser lacks.

The table was found by handing every op of the registry, drawn at random, to the parser of TensorRT-RTX 1.7 and to its
builder; the tests do so again.
"""

from __future__ import annotations

from ...ir.graph import Op, Value
from ..onnx.legal import why_not as not_in_onnx

TYPES = frozenset({"f32", "f16", "i32", "i64", "bool", "i8"})


def why_not(op: Op) -> str | None:
    """The reason why `op` has no form in TensorRT; None if it has one."""
    if op.attrs.get("dynamic"):
        return "activations quantized at run time; TensorRT wants fixed scales (--calibrate)"
    for v in (*op.operands, *op.results):
        if v is not None and (why := _type(v)):
            return why
    if op.kind == "dequantize":
        return None
    return _own(op) or not_in_onnx(op)


def _type(v: Value) -> str | None:
    t = v.type
    if t.dtype not in TYPES:
        return f"TensorRT has no {t.dtype}"
    if t.dtype == "i8" and t.quant is None:
        return "TensorRT takes 8-bit numbers as codes of a quantized tensor only"
    if t.quant is not None and t.quant.zero_point:
        return f"its zero point is {t.quant.zero_point}; TensorRT's are all 0 (quantize with symmetric=True)"
    if 0 in t.sizes:
        return "a dimension of size 0"
    return None


def _own(op: Op) -> str | None:
    makers = [v.op.kind for v in op.operands if v is not None and v.op is not None]
    if op.kind == "gru" and "dequantize" in makers:
        return "TensorRT's builder fails on a GRU whose weights are kept in 8 bits"
    if op.kind == "conv_transpose" and max(op.attrs["dilation"]) > 1 and not op.operands[1].known:
        return "a dilated transposed convolution wants a kernel that is known at compile time"
    return None

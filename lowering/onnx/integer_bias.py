"""The bias of a product on 8-bit grids, as the int32 numbers that integer kernels add."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Op
from ...ir.types import Quant
from .ops_quant import weight_behind

LARGEST = 2**31 - 1


def integer_bias(e, op: Op):
    """DequantizeLinear of an int32 bias where input and weights of `op` are on grids; else the bias as it is.

    Its scale is that of the products, so nothing but a rounding is added. Where the shapes are fixed, and
    for matrices, onnxruntime turns a product and its bias into one Gemm, which it runs in integers only if the bias is
    quantized too. Elsewhere the same numbers are added in float: as int32 they would make the file larger by their
    scales.
    """
    x, w, b = op.operands[:3]
    stored = weight_behind(w)
    on = x.op.operands[0].type.quant if x.op is not None and x.op.kind == "dequantize" else None
    if b is None or stored is None or on is None or b.kind != "weight" or not isinstance(on.scale, float):
        return b
    scale = np.float32(on.scale) * _scales(e, stored.type.quant, b.type.sizes[0])
    if np.abs(b.array / scale).max(initial=0) > LARGEST:
        return b
    in_float = op.kind == "linear" and x.type.rank > 2 and not x.type.static
    key = ("integer bias", b.name, stored.name, on.scale, in_float)
    if key in e.cache:
        return e.cache[key]
    codes = np.rint(b.array.astype(np.float64) / scale).astype(np.int32)
    if in_float:
        e.cache[key] = e.constant((codes * scale.astype(np.float64)).astype(np.float32), f"{b.name}.rounded")
    else:
        zero = np.zeros(len(codes), np.int32)
        e.cache[key] = e.node("DequantizeLinear", [e.constant(codes, f"{b.name}.i32"), scale, zero], axis=0)
    return e.cache[key]


def _scales(e, quant: Quant, outputs: int) -> np.ndarray:
    """The scale of every output."""
    if isinstance(quant.scale, float):
        return np.full(outputs, quant.scale, np.float32)
    return np.broadcast_to(e.graph.weights[quant.scale].array.astype(np.float32), (outputs,))

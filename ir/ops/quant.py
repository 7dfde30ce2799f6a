"""Ops between real values and quantized ones; the scales are in the types."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..registry import op, quantized
from ..types import DTYPES, FLOATS, LIMITS, Quant, Tensor


@op(carries=True)
def quantize(x, *, scale, zero_point=0, dtype="i8"):
    """round(x / scale) + zero_point, ties to even, clipped to the range of `dtype`."""
    return quantized(x, dtype, scale, zero_point)


@quantize.rule
def _(x, *, scale, zero_point, dtype):
    if not x.is_float or dtype not in LIMITS or not scale > 0:
        raise IRError(f"cannot quantize {x} to {dtype} with scale {scale}")
    return Tensor(dtype, x.shape, Quant(float(scale), zero_point))


@op
def dequantize(q, *, dtype="f32"):
    """The real values that a quantized tensor stands for: scale * (q - zero_point)."""
    return q.astype(DTYPES[dtype])  # quantized operands reach an arithmetic op as real values


@dequantize.rule
def _(q, *, dtype):
    if not q.is_float or dtype not in FLOATS:
        raise IRError(f"cannot make {dtype} of {q}: wants a quantized tensor")
    return q.with_(dtype=dtype)


def quantize_weight(array: np.ndarray, axis: int | None, dtype: str = "i8") -> tuple[np.ndarray, np.ndarray]:
    """Symmetric quantization of weights, per element of `axis` (or whole): values and float32 scales.

    The most negative code is left out, as TFLite's kernels demand.
    """
    limit = LIMITS[dtype][1]
    others = tuple(i for i in range(array.ndim) if i != axis) if axis is not None else None
    largest = np.abs(array).max(axis=others, keepdims=True) if array.size else np.zeros((1,) * array.ndim)
    scale = np.where(largest == 0, 1, largest / limit).astype(np.float32)
    codes = np.clip(np.rint(array / scale), -limit, limit).astype(np.int8)
    return codes, scale.reshape(-1)

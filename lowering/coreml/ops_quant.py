"""Quantization: onto a grid and back at once, as Core ML's compiler expects it around what runs in 8 bits.

Between the two, MIL has hardly an operation on codes. So a quantized value is held as the real numbers that its codes
stand for; moving them is exact.
"""

from __future__ import annotations

import numpy as np

from .lower import lower

CODES = {"i8": ("int8", np.int8), "u8": ("uint8", np.uint8)}


@lower("quantize", since=17)
def _(e, x, *, scale, zero_point, dtype):
    real = e.real_of(e.current.result)
    y = codes(e, e.cast(e.value(x), x.type.dtype, real), real, scale, zero_point, dtype)
    zero = {"zero_point": CODES[dtype][1](zero_point)} if zero_point else {}
    return e.op("dequantize", input=y, scale=e.number(scale, real), **zero)


def codes(e, x, real: str, scale: float, zero_point: int, dtype: str):
    """The codes of real numbers of element type `real`."""
    name, kind = CODES[dtype]
    zero = {"zero_point": kind(zero_point)} if zero_point else {}
    return e.op("quantize", input=x, scale=e.number(scale, real), output_dtype=name, **zero)


@lower("dequantize")
def _(e, q, *, dtype):
    if q.kind == "weight":
        return None  # `constants.constant` makes it where it is read
    return e.cast(e.value(q), e.real_of(q), dtype)

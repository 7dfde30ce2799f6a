"""The passes that make a graph of each precision, and which ops TensorRT runs or stores in 8 bits."""

from __future__ import annotations

PRECISIONS = ("float32", "float16", "int8", "int8+float16")
# With calibration: QuantizeLinear and DequantizeLinear, around zero, in front of the op.
STATIC = ("linear", "conv", "depthwise", "grouped", "matmul")
# Weights kept in 8 bits, arithmetic in float. Its builder fails on a GRU of such weights, and on an LSTM beside other
# products of them; rows of a table, looked up as 8-bit numbers, are no codes of a quantized tensor: these stay float.
STORE = ("linear", "conv")


def compress(precision: str, calibrated: bool) -> tuple[str, ...]:
    """The passes that make a graph of `precision` out of a float32 one."""
    half = ("float16",) if precision.endswith("float16") else ()
    if not precision.startswith("int8"):
        return half
    store = f'store="{", ".join(STORE)}"'
    if not calibrated:
        return (f'quantize{{mode="weights", {store}}}', *half)
    kinds = f'kinds="{", ".join(STATIC)}"'
    return (f'quantize{{mode="static", {kinds}, activations="i8", symmetric=True, {store}}}', *half)

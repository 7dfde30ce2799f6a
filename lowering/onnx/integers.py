"""What onnxruntime runs in 8 bits, and in which form: a table measured on a processor with VNNI, not a guess.

`benchmarks/integer_ops.py` measures it again. Activations are u8: with i8 activations the same kernels take up to three
times as long. With calibration, convolutions are integer where their result is 8 bits as well (QLinearConv). Without,
they are integer products of the windows' codes (`ops_quant.dynamic_conv`): ConvInteger is slower than the float kernel.
"""

from __future__ import annotations

# With calibration: QuantizeLinear and DequantizeLinear around the op.
STATIC = ("linear", "conv", "depthwise")
WRITES_8_BITS = ("conv", "depthwise")
# Without: DynamicQuantizeLinear and MatMulInteger.
DYNAMIC = ("linear", "conv")


def compress(precision: str, calibrated: bool) -> tuple[str, ...]:
    """The passes that make a graph of `precision` out of a float32 one."""
    if precision == "float16":
        return ("float16",)
    if precision != "int8":
        return ()
    if calibrated:
        kinds, outputs = ", ".join(STATIC), ", ".join(WRITES_8_BITS)
        return (f'quantize{{mode="static", kinds="{kinds}", outputs="{outputs}", activations="u8"}}',)
    return (f'quantize{{mode="dynamic", kinds="{", ".join(DYNAMIC)}", per="tensor"}}',)

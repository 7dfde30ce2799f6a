"""What onnxruntime runs in 8 bits, and in which form: a table measured on a processor with VNNI, not a guess.

Times as fast as float, one layer with floats in and out, two threads (`benchmarks/integer_ops.py` measures it again):

    layer                   with calibration   without   8-bit weights alone
    linear 256 → 2048       6.8                6.7       0.3
    linear 2048 → 256       4.0                4.1       0.4
    linear 256 → 256        2.7                3.0       0.7
    conv 3×3, 128 channels  2.0                2.0       0.8
    conv 9 in 4 groups      3.3                0.9       1.0
    depthwise 31 over time  3.1                0.9       1.0
    depthwise 3×3           1.0                0.1       0.1
    shallow conv 3×3        0.9                0.6       -
    transposed conv 16      -                  -         0.9
    attention products      1.1                -         -
    LSTM 256                -                  -         1.0

Activations are u8: with i8 the same kernels are as fast alone, but a whole Conformer takes 1.7 times as long. With
calibration, convolutions are integer where their result is 8 bits as well (QLinearConv). Without, they are integer
products of the windows' codes (`ops_quant.dynamic_conv`): ConvInteger is slower than the float kernel.
"""

from __future__ import annotations

# With calibration: QuantizeLinear and DequantizeLinear around the op.
STATIC = ("linear", "conv", "depthwise", "grouped")
WRITES_8_BITS = ("conv", "depthwise", "grouped")
# Without: DynamicQuantizeLinear and MatMulInteger.
DYNAMIC = ("linear", "conv")
# Weights kept in 8 bits, arithmetic in float: where that costs no time.
STORE = ("gather", "lstm", "gru", "rnn", "grouped")


def compress(precision: str, calibrated: bool) -> tuple[str, ...]:
    """The passes that make a graph of `precision` out of a float32 one."""
    if precision == "float16":
        return ("float16",)
    if precision != "int8":
        return ()
    store = f'store="{", ".join(STORE)}"'
    if calibrated:
        kinds, outputs = ", ".join(STATIC), ", ".join(WRITES_8_BITS)
        return (f'quantize{{mode="static", kinds="{kinds}", outputs="{outputs}", activations="u8", {store}}}',)
    return (f'quantize{{mode="dynamic", kinds="{", ".join(DYNAMIC)}", per="tensor", {store}}}',)

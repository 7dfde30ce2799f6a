"""What LiteRT runs in 8 bits, and in which form: a table measured on a processor with VNNI, not a guess.

Times as fast as float, one layer with floats in and out, two threads (`benchmarks/integer_ops.py` measures it again):

    layer                   with calibration   without   8-bit weights alone
    linear 256 → 2048       3.7                3.9       -
    linear 2048 → 256       3.7                3.5       -
    linear 256 → 256        2.6                2.4       -
    feed-forward with SiLU  3.2, with glue 3.7 3.4       -
    conv 3×3, 128 channels  3.5                3.3       -
    conv 9 in 4 groups      3.5                -         1.0
    depthwise 31 over time  1.0                -         -
    depthwise 3×3           1.2                -         -
    shallow conv 3×3        1.0                1.0       -
    transposed conv 16      -                  -         1.0
    attention products      0.1                -         -
    LSTM 256                -                  -         1.1

Full int8 kernels read and write i8; hybrid ones read floats, quantize them as they run (matrix products a row at a
time, convolutions the whole input) and write floats. Depthwise and shallow convolutions gain nothing alone, but
between others they save the way to float and back.
"""

from __future__ import annotations

# With calibration: full int8 kernels, which write 8 bits too; sigmoids and products between them stay in 8 bits.
STATIC = ("linear", "conv", "depthwise", "grouped", "shallow")
GLUE = ("mul", "sigmoid", "tanh", "max_pool")
# Without: hybrid kernels. A depthwise or shallow convolution is faster in float.
DYNAMIC = (("linear", "row"), ("conv", "tensor"))
# Weights kept in 8 bits, arithmetic in float: where that costs no time.
STORE = ("gather", "lstm", "gru", "rnn", "grouped", "conv_transpose")


def compress(precision: str, calibrated: bool) -> tuple[str, ...]:
    """The passes that make a graph of `precision` out of a float32 one."""
    if precision == "float16":
        return ("float16-weights",)
    if precision != "int8":
        return ()
    store = f'store="{", ".join(STORE)}"'
    if calibrated:
        kinds, glue = ", ".join(STATIC), ", ".join(GLUE)
        return (
            "channels-last",
            "split-silu",
            f'quantize{{mode="static", kinds="{kinds}", outputs="{kinds}", glue="{glue}", activations="i8", {store}}}',
            "integer",
        )
    return tuple(f'quantize{{mode="dynamic", kinds="{kind}", per="{per}", {store}}}' for kind, per in DYNAMIC)

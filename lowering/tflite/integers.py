"""What LiteRT runs in 8 bits, and in which form: a table measured on a processor with VNNI, not a guess.

`benchmarks/integer_ops.py` measures it again. Full int8 kernels read and write i8; hybrid ones read floats, quantize
them as they run (matrix products a row at a time, convolutions the whole input) and write floats.
"""

from __future__ import annotations

# With calibration: full int8 kernels, which write 8 bits too; sigmoids and products between them stay in 8 bits.
STATIC = ("linear", "conv", "depthwise", "shallow")
GLUE = ("mul", "sigmoid", "tanh", "max_pool")
# Without: hybrid kernels. A depthwise or shallow convolution is faster in float.
DYNAMIC = (("linear", "row"), ("conv", "tensor"))


def compress(precision: str, calibrated: bool) -> tuple[str, ...]:
    """The passes that make a graph of `precision` out of a float32 one."""
    if precision == "float16":
        return ("float16-weights",)
    if precision != "int8":
        return ()
    if calibrated:
        kinds, glue = ", ".join(STATIC), ", ".join(GLUE)
        return (
            "channels-last",
            "split-silu",
            f'quantize{{mode="static", kinds="{kinds}", outputs="{kinds}", glue="{glue}", activations="i8"}}',
            "integer",
        )
    return tuple(f'quantize{{mode="dynamic", kinds="{kind}", per="{per}"}}' for kind, per in DYNAMIC)

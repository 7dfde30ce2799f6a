"""What Core ML runs in half precision and in 8 bits, and in which form. Nothing here was timed on Apple hardware.

Core ML keeps weights in 8 bits in every release from iOS 16 on; the Neural Engine multiplies 8-bit activations and
weights from the A17 and M4 on, where `quantize` and `dequantize` stand around an operation. It runs float16 alone: what
is float32 goes to the CPU. So 8 bits are 8 bits and float16 here.
"""

from __future__ import annotations

STATIC = ("linear", "conv", "depthwise", "grouped")
STORE = ("linear", "conv", "depthwise", "grouped", "conv_transpose", "lstm", "gru", "rnn", "gather")


def compress(precision: str, calibrated: bool) -> tuple[str, ...]:
    """The passes that make a graph of `precision` out of a float32 one."""
    if precision == "float16":
        return ("float16",)
    if precision != "int8":
        return ()
    store = f'store="{", ".join(STORE)}"'
    if calibrated:
        return (f'quantize{{mode="static", kinds="{", ".join(STATIC)}", {store}}}', "float16")
    return (f'quantize{{mode="weights", {store}}}', "float16")

"""What Core ML runs in half precision and in 8 bits, and in which form. Nothing here was timed on Apple hardware.

Core ML keeps weights in 8 bits in every release from iOS 16 on; the Neural Engine multiplies 8-bit activations and
weights from the A17 and M4 on, where `quantize` and `dequantize` stand around an operation. It runs float16 alone: what
is float32 goes to the CPU or GPU. So 8 bits are 8 bits and float16 here, and what MIL has as one operation (softmax,
layer and batch norms) is float16, as coremltools' own converter makes it.
"""

from __future__ import annotations

STATIC = ("linear", "conv", "depthwise", "grouped")
STORE = ("linear", "conv", "depthwise", "grouped", "conv_transpose", "lstm", "gru", "rnn", "gather")
# In float32 stay sums, exponentials and divisions on their own, what is carried from frame to frame, and features.
KEEP = (
    "log_softmax, rms_norm, exp, log, sqrt, rsqrt, reciprocal, pow, div, sum, mean, cumsum, sin, cos, softplus, erf, "
    "frame, overlap_add, lstm, gru, rnn"
)
FLOAT16 = f'float16{{keep="{KEEP}"}}'


def compress(precision: str, calibrated: bool) -> tuple[str, ...]:
    """The passes that make a graph of `precision` out of a float32 one."""
    if precision == "float16":
        return (FLOAT16,)
    if precision != "int8":
        return ()
    store = f'store="{", ".join(STORE)}"'
    if calibrated:
        return (f'quantize{{mode="static", kinds="{", ".join(STATIC)}", {store}}}', FLOAT16)
    return (f'quantize{{mode="weights", {store}}}', FLOAT16)

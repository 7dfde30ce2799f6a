"""Matrix products and convolutions."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Expr
from ...ir.graph import Op, Value
from .integer_bias import integer_bias
from .lower import lower
from .ops_quant import dequantized, dynamic_conv, dynamic_linear, weight_behind
from .ops_shape import padded


@lower("matmul")
def _(e, a, b):
    return e.node("MatMul", [a, b])


@lower("linear")
def _(e, x, w, b, *, dynamic=None):
    """One MatMul with the weight stored as [inputs, outputs], and one Add: what onnxruntime runs fastest."""
    if dynamic:
        return dynamic_linear(e, x, w, b, dynamic)
    y = e.node("MatMul", [x, transposed(e, w)])
    if b is None:
        return y
    if _between_codes(e.op):
        return e.node("Sub", [y, e.weight(b, "negative", lambda a: -a, b.type.sizes)])
    return e.node("Add", [y, integer_bias(e, e.op)])


def _between_codes(op: Op) -> bool:
    """Whether a product of floats is read as integers.

    Of MatMul and Add onnxruntime makes a Gemm where shapes are fixed, and then quantizes the weights of a Gemm that
    reads and writes codes, whatever they are meant to be: a difference says the same and stays as it is.
    """
    return all(v.kind == "weight" and v.type.quant is None for v in op.operands[1:]) and _quantized(op.result)


def _quantized(v: Value) -> bool:
    return any(
        user.kind == "quantize" or (user.kind in ("reshape", "transpose") and _quantized(user.result))
        for user in v.users
    )


def transposed(e, w: Value):
    """A matrix [outputs, inputs] as [inputs, outputs]: stored so if it is a weight, quantized or not.

    A weight that is a table as well is stored once; onnxruntime turns it when it loads the file.
    """
    if w.kind == "weight" and w.type.quant is None:
        if any(user.kind == "gather" and user.operands[0] is w for user in w.users):
            return e.node("Transpose", [w], perm=[1, 0])
        return e.weight(w, "T", lambda a: a.T, w.type.sizes[::-1])
    stored = weight_behind(w)
    if stored is not None:
        return dequantized(e, stored, w.type.dtype, transpose=True)
    return e.node("Transpose", [w], perm=[1, 0])


@lower("conv")
def _(e, x, w, b, *, stride, dilation, pad, groups, channel_last, dynamic=None):
    if dynamic:
        return dynamic_conv(e, x, w, b, stride, dilation, pad, groups)
    x, pad = _known_pads(e, x, pad)
    return e.node(
        "Conv", [x, w, *([] if b is None else [integer_bias(e, e.op)])], strides=list(stride), dilations=list(dilation),
        pads=_pads(pad), group=groups, kernel_shape=list(w.type.sizes[2:]),
    )  # fmt: skip


@lower("conv_transpose")
def _(e, x, w, b, *, stride, dilation, pad, output_pad, groups, channel_last):
    """`output_pad` adds behind before `pad` crops; onnxruntime takes what is left of it below the stride only."""
    crop = [(p, max(q - o, 0)) for (p, q), o in zip(pad, output_pad)]
    more = [max(o - q, 0) for (_, q), o in zip(pad, output_pad)]
    within = all(o < s for o, s in zip(more, stride))
    attrs = {"output_padding": more} if within and any(more) else {}
    y = e.node(
        "ConvTranspose", [x, w, *([] if b is None or not within else [b])], strides=list(stride),
        dilations=list(dilation), pads=_pads(crop), group=groups, kernel_shape=list(w.type.sizes[2:]), **attrs,
    )  # fmt: skip
    if within:
        return y
    y = e.node("Pad", [y, np.array([0] * (x.type.rank + 2) + more, np.int64)])
    return y if b is None else e.node("Add", [y, e.reshape(b, b.type.sizes, (*b.type.sizes, *[1] * len(stride)))])


def _pads(pad) -> list[int]:
    return [p for p, _ in pad] + [q for _, q in pad]


def _known_pads(e, x: Value, pad):
    """Symbolic pads become a Pad in front."""
    if not any(isinstance(p, Expr) for pair in pad for p in pair):
        return x, pad
    return padded(e, x, [(0, 0), (0, 0), *pad], "constant", 0.0), [(0, 0)] * len(pad)

"""Matrix products and convolutions."""

from __future__ import annotations

from ...ir.expr import Expr
from ...ir.graph import Value
from .constants import behind
from .lower import lower


@lower("matmul")
def _(e, a, b):
    return e.op("matmul", x=a, y=b)


@lower("linear")
def _(e, x, w, b, *, dynamic=None):
    """MIL's `linear` takes constants, and inputs of up to three dimensions."""
    fixed = all(p is None or behind(p) is not None for p in (w, b))
    if fixed and 1 <= x.type.rank <= 3:
        return e.op("linear", x=x, weight=w, bias=b)
    rows = e.op("expand_dims", x=x, axes=[0]) if x.type.rank == 1 else x
    y = e.op("matmul", x=rows, y=w, transpose_y=True)
    y = e.op("squeeze", x=y, axes=[0]) if x.type.rank == 1 else y
    return y if b is None else e.op("add", x=y, y=b)


def first_channels(e, x: Value, last: bool):
    """`x` with its channels in front of its space."""
    rank = x.type.rank
    return e.transpose(x, [0, rank - 1, *range(1, rank - 1)]) if last else e.value(x)


def channels_back(e, y, rank: int, last: bool):
    """The result of a window op in the layout of its operand."""
    return e.transpose(y, [0, *range(2, rank), 1]) if last else y


def fitting(e, x, pad, dtype: str, fill: float = 0.0, kernel=None):
    """Pads as MIL takes them: numbers (below `kernel`, where it is given); others become an operation in front."""
    flat = [p for pair in pad for p in pair]
    limits = [None] * len(flat) if kernel is None else [k for k in kernel for _ in range(2)]
    if any(isinstance(p, Expr) or (k is not None and p >= k) for p, k in zip(flat, limits)):
        return e.pad(x, dtype, [(0, 0), (0, 0), *pad], fill), [0] * len(flat)
    return x, flat


def _biased(e, y, b: Value | None, rank: int):
    if b is None:
        return y
    size = b.type.sizes[0]
    return e.op("add", x=y, y=e.reshape(b, (size,), (size, *[1] * (rank - 2))))


@lower("conv")
def _(e, x, w, b, *, stride, dilation, pad, groups, channel_last, dynamic=None):
    y = first_channels(e, x, channel_last)
    y, pads = fitting(e, y, pad, e.real_of(x))
    fixed = b is not None and behind(b) is not None
    y = e.op(
        "conv", x=y, weight=w, bias=b if fixed else None, strides=list(stride), pad_type="custom", pad=pads,
        dilations=list(dilation), groups=groups,
    )  # fmt: skip
    return channels_back(e, y if fixed else _biased(e, y, b, x.type.rank), x.type.rank, channel_last)


@lower("conv_transpose")
def _(e, x, w, b, *, stride, dilation, pad, output_pad, groups, channel_last):
    """More output than the crop behind takes away is zeros behind it; the bias reaches them too."""
    rank = x.type.rank
    y = first_channels(e, x, channel_last)
    kept = [(p, max(q - more, 0)) for (p, q), more in zip(pad, output_pad)]
    behind_ = [max(more - q, 0) for (_, q), more in zip(pad, output_pad)]
    fixed = b is not None and behind(b) is not None and not any(behind_)
    y = e.op(
        "conv_transpose", x=y, weight=w, bias=b if fixed else None, strides=list(stride), pad_type="custom",
        pad=[p for pair in kept for p in pair], dilations=list(dilation), groups=groups,
    )  # fmt: skip
    if any(behind_):
        pads = [0, 0, 0, 0, *(p for more in behind_ for p in (0, more))]
        y = e.op("pad", x=y, pad=pads, mode="constant", constant_val=e.number(0, x))
    return channels_back(e, y if fixed else _biased(e, y, b, rank), rank, channel_last)

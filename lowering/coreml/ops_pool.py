"""Pooling windows."""

from __future__ import annotations

import numpy as np

from .lower import lower
from .ops_linear import channels_back, first_channels, fitting


@lower("max_pool")
def _(e, x, *, kernel, stride, pad, dilation, channel_last):
    y = first_channels(e, x, channel_last)
    dtype = e.real_of(x)
    if any(d > 1 and k > 1 for d, k in zip(dilation, kernel)):
        y = _spread(e, y, kernel, stride, pad, dilation, dtype)
        return channels_back(e, y, x.type.rank, channel_last)
    y, pads = fitting(e, y, pad, dtype, -np.inf, kernel)
    y = e.op("max_pool", x=y, kernel_sizes=list(kernel), strides=list(stride), pad_type="custom", pad=pads)
    return channels_back(e, y, x.type.rank, channel_last)


def _spread(e, x, kernel, stride, pad, dilation, dtype: str):
    """Taps that lie apart, which MIL's pooling does not have: the largest of one slice a tap."""
    x = e.pad(x, dtype, [(0, 0), (0, 0), *pad], -np.inf)
    rank, largest = 2 + len(kernel), None
    for at in np.ndindex(*kernel):
        begin = [0, 0, *(i * d for i, d in zip(at, dilation))]
        end = [0, 0, *(-(k - 1 - i) * d for k, i, d in zip(kernel, at, dilation))]
        tap = e.op(
            "slice_by_index", x=x, begin=begin, end=end, stride=[1, 1, *stride], begin_mask=[False] * rank,
            end_mask=[n == 0 for n in end],
        )  # fmt: skip
        largest = tap if largest is None else e.op("maximum", x=largest, y=tap)
    return largest


@lower("avg_pool")
def _(e, x, *, kernel, stride, pad, count_pad, channel_last):
    y = first_channels(e, x, channel_last)
    if count_pad:
        y, pads = fitting(e, y, pad, e.real_of(x), 0.0, kernel)
    else:
        pads = [p for pair in pad for p in pair]
    y = e.op(
        "avg_pool", x=y, kernel_sizes=list(kernel), strides=list(stride), pad_type="custom", pad=pads,
        exclude_padding_from_average=not count_pad,
    )  # fmt: skip
    return channels_back(e, y, x.type.rank, channel_last)

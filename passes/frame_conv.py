"""Framing followed by a matrix product (an STFT, a filterbank on frames) is one strided convolution."""

from __future__ import annotations

from ..ir.types import Tensor
from .base import Close
from .rewrite import Rewrite, numbers


class FrameLinearToConv(Rewrite):
    """frame(x, size, hop) → linear(w) is conv(x, w, stride=hop) with one input channel: the frames are never stored."""

    # The same sums in another order.
    name, stage, equal = "frame-linear-to-conv", "optimize", Close(rtol=1e-5)

    def match(self, p, x, w, b):
        return p.linear(p.frame(x, name="frame"), w, b)

    def check(self, m):
        if not numbers(m.w):
            return m.no("weights are computed at run time or quantized", m.w)
        if m.x.type.rank > 2:
            return m.no("more than one batch dimension in front of time")
        return True

    def build(self, g, m):
        out, size = m.w.type.sizes
        kernel = Tensor(m.w.type.dtype, (out, 1, size))
        w = g.derived(f"{m.w.name}.conv", "frames", kernel, lambda w: w.reshape(w.shape[0], 1, -1), m.w)
        batch, time = (m.x.type.sizes[0] if m.x.type.rank == 2 else 1), m.x.type.sizes[-1]
        x = g.reshape(m.x, shape=(batch, 1, time))
        y = g.conv(x, w, m.b, stride=(m["frame"].attrs["hop"],))
        y = g.transpose(y, perm=(0, 2, 1))
        return y if m.x.type.rank == 2 else g.reshape(y, shape=y.type.sizes[1:])

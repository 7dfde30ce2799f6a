"""A convolution of one tap is a matrix product over channels."""

from __future__ import annotations

from ..ir.types import Tensor
from .base import Close
from .rewrite import Rewrite, numbers


class PointwiseConvToLinear(Rewrite):
    """conv with kernel 1, stride 1, no padding, one group → transpose, linear, transpose.

    The transposes meet those of their neighbours and vanish; matrix products have the faster integer kernels.
    """

    # The same sums in another order.
    name, stage, equal = "pointwise-conv-to-linear", "optimize", Close(rtol=1e-5)

    def match(self, p, x, w, b):
        return p.conv(x, w, b, name="conv", groups=1)

    def check(self, m):
        conv = m["conv"].attrs
        if any(k != 1 for k in m.w.type.sizes[2:]):
            return False
        if any(s != 1 for s in conv["stride"]) or any(map(any, conv["pad"])):
            return m.no("one tap, but strided or padded")
        return True if numbers(m.w) else m.no("weights are computed at run time or quantized", m.w)

    def build(self, g, m):
        rank, (out, inputs) = m.x.type.rank, m.w.type.sizes[:2]
        w = g.derived(
            f"{m.w.name}.linear", "linear", Tensor(m.w.type.dtype, (out, inputs)), lambda w: w.reshape(w.shape[:2]), m.w
        )
        if m["conv"].attrs["channel_last"]:
            return g.linear(m.x, w, m.b)
        to_last = (0, *range(2, rank), 1)
        back = (0, rank - 1, *range(1, rank - 1))
        return g.transpose(g.linear(g.transpose(m.x, perm=to_last), w, m.b), perm=back)

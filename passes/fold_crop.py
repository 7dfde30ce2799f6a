"""Fold a crop behind a window op, or behind a pad, into its padding: a causal convolution written as pad and chomp."""

from __future__ import annotations

from ..ir.graph import Op
from .base import Close
from .rewrite import Rewrite


class FoldCrop(Rewrite):
    """slice(window(x)) is the window op with less padding, slice(pad(x)) a smaller pad, of what is left of x.

    Streaming needs it: frames that a crop takes off the end cannot be told from others before the end is known.
    """

    # A convolution over fewer frames may order its sums differently.
    name, stage, equal = "fold-crop", "normalize", Close(rtol=1e-6)

    def match(self, p, x):
        windows = ("conv", "avg_pool", "max_pool", "conv_transpose")
        return [p.slice(p.one_of(windows, x, name="inner", bare=False)), p.slice(p.pad(x, name="inner"))]

    def check(self, m):
        crop, inner = m.root.attrs, m["inner"]
        size = inner.result.type.shape[crop["axis"]].size
        behind = size - crop["stop"]
        if crop["step"] != 1 or not isinstance(crop["start"], int) or not isinstance(behind, int):
            return m.no("keeps every few frames, or a number of frames known at run time only")
        m.front, m.behind = crop["start"], behind
        return _fits_pad(m) if inner.kind == "pad" else _fits_window(m, inner)

    def build(self, g, m):
        inner, axis = m["inner"], m.root.attrs["axis"]
        if inner.kind != "pad":
            return g.emit(inner.kind, (m.x, *inner.operands[1:]), {**inner.attrs, "pad": m.pads})
        x, (front, behind) = m.x, m.pads
        if front < 0 or behind < 0:
            whole = x.type.sizes[axis]
            x = g.slice(x, axis=axis, start=max(-front, 0), stop=whole - max(-behind, 0))
        pads = list(inner.attrs["pads"])
        pads[axis] = (max(front, 0), max(behind, 0))
        if not any(map(any, pads)):
            return x
        return g.pad(x, pads=tuple(pads), mode=inner.attrs["mode"], value=inner.attrs["value"])


def _fits_pad(m) -> bool:
    front, behind = m["inner"].attrs["pads"][m.root.attrs["axis"]]
    if not isinstance(front, int) or not isinstance(behind, int):
        return m.no("pads by a size known at run time only")
    if (front, behind) == (0, 0) or (front < m.front and behind < m.behind):
        return m.no("crops more than is padded")
    m.pads = (front - m.front, behind - m.behind)
    return True


def _fits_window(m, op: Op) -> bool:
    rank, axis = op.operands[0].type.rank, m.root.attrs["axis"]
    first = 1 if op.attrs["channel_last"] else 2
    if not first <= axis < first + rank - 2:
        return m.no("crops batch or channels")
    at, pads = axis - first, list(op.attrs["pad"])
    front, behind = pads[at]
    if op.kind == "conv_transpose":  # its padding is a crop
        pads[at] = (front + m.front, behind + m.behind)
    else:
        stride = op.attrs["stride"][at]
        pads[at] = (front - m.front * stride, behind - m.behind * stride)
        if any(not isinstance(n, int) or n < 0 for n in pads[at]):
            return m.no("crops more than the window op pads")
    m.pads = tuple(pads)
    return True

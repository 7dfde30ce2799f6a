"""Fold a pad in front of a window op into the window op's own padding."""

from __future__ import annotations

from ..ir.graph import Op
from .base import Exact
from .rewrite import Rewrite


class FoldPad(Rewrite):
    """pad → conv or pool is a conv or pool with more padding, where both pad with the same value.

    Besides saving an op this is what makes streaming delays least: a pad of 4 in front of a convolution of 8 with
    stride 4 costs one frame of delay walked separately, and none folded.
    """

    name, stage, equal = "fold-pad", "normalize", Exact()

    def match(self, p, x):
        return p.one_of(
            ("conv", "avg_pool", "max_pool"),
            p.pad(x, name="pad", mode="constant", shared=True),
            name="window",
            bare=False,
        )

    def check(self, m):
        window, pads, value = m["window"], m["pad"].attrs["pads"], m["pad"].attrs["value"]
        wanted = float("-inf") if window.kind == "max_pool" else 0.0
        if value != wanted:
            return m.no(f"pads with {value}, a {window.kind} with {wanted}")
        if window.kind == "avg_pool" and not window.attrs["count_pad"]:
            return m.no("the pool does not count its own padding")
        outside = [p for i, p in enumerate(pads) if i not in _spatial(window)]
        if any(map(any, outside)):
            return m.no("pads batch or channels")
        if any(not isinstance(n, int) or n < 0 for pair in pads for n in pair):
            return m.no("crops, or pads by a size known at run time only")
        return True

    def build(self, g, m):
        window, pads = m["window"], m["pad"].attrs["pads"]
        own = [pads[i] for i in _spatial(window)]
        total = tuple((a + c, b + d) for (a, b), (c, d) in zip(window.attrs["pad"], own))
        return g.emit(window.kind, (m.x, *window.operands[1:]), {**window.attrs, "pad": total})


def _spatial(window: Op) -> list[int]:
    rank = window.operands[0].type.rank
    return list(range(1, rank - 1)) if window.attrs["channel_last"] else list(range(2, rank))

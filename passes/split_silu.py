"""SiLU as a sigmoid and a product, for targets that have no kernel for the whole."""

from __future__ import annotations

from .base import Close
from .rewrite import Rewrite


class SplitSilu(Rewrite):
    """silu(x) is x * sigmoid(x): so written, both can run in integers where their neighbours do."""

    name, stage, equal = "split-silu", "legalize", Close(rtol=1e-6)

    def match(self, p, x):
        return p.silu(x)

    def build(self, g, m):
        return g.mul(m.x, g.sigmoid(m.x))

"""A number that multiplies a matrix product or convolution becomes part of its weights."""

from __future__ import annotations

from .base import Close
from .rewrite import Rewrite, number_of, numbers


class FoldScale(Rewrite):
    """c · (x @ w + b) is x @ (c w) + c b: the half of a Conformer's feed-forward layers costs nothing."""

    # One rounding more in every weight, one fewer in every result.
    name, stage, equal = "fold-scale", "optimize", Close(rtol=1e-6)

    def match(self, p, x, w, b, c):
        inner = p.one_of(("linear", "conv"), x, w, b, name="op")
        return [p.mul(inner, c), p.div(inner, c, name="div")]

    def check(self, m):
        if number_of(m.c) is None or m.root.result.type != m["op"].result.type:
            return False
        if "div" in m.ops and number_of(m.c) == 0:
            return m.no("divides by zero")
        for v in (m.w, m.b):
            if not numbers(v):
                return m.no("a weight is computed at run time or quantized", v)
        return True

    def build(self, g, m):
        factor = number_of(m.c) if "div" not in m.ops else 1 / number_of(m.c)

        def scaled(v):
            return g.derived(f"{v.name}.x{factor:.6g}", f"x{factor!r}", v.type, _times(factor), v)

        with g.at(m["op"].loc.through(self.name)):
            return g.emit(m["op"].kind, (m.x, scaled(m.w), m.b and scaled(m.b)), m["op"].attrs)


def _times(factor: float):
    return lambda array: array * array.dtype.type(factor)

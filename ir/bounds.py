"""Which of two sizes is the smaller at every length that is possible."""

from __future__ import annotations

from collections.abc import Mapping

from .expr import Size, asymptote, evaluate, symbols

Limits = Mapping[str, list[int | None]]


def at_most(a: Size, b: Size, limits: Limits) -> bool | None:
    """Whether a <= b for every value of their symbol within `limits` (least, most; None: no bound, else at least 1).

    Decided by evaluation over two periods beyond the last breakpoint, as equality is (`expr.same`). None where that
    cannot be: several symbols, or a product of sizes.
    """
    gap = b - a
    if isinstance(gap, int):
        return gap >= 0
    names, line = symbols(gap), asymptote(gap)
    if len(names) != 1 or line is None:
        return None
    (name,) = names
    least, most = limits.get(name, [1, None])
    first = max(least or 1, 1)
    last = max(first, line.start) + 2 * line.period
    if most is not None:
        last = min(last, most)
    if any(evaluate(gap, {name: n}) < 0 for n in range(first, last + 1)):
        return False
    if last == most or line.slope >= 0:
        return True
    if most is None:
        return False
    return all(evaluate(gap, {name: n}) >= 0 for n in range(max(last, most - line.period), most + 1))

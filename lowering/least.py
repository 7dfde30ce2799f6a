"""The smallest value that a symbolic size can have."""

from __future__ import annotations

import math

from ..ir.expr import Div, Extreme, Size, Sym


def least(size: Size) -> int | None:
    """The smallest value of a size that grows with all its symbols (they start at 1); None for others."""
    if isinstance(size, int):
        return size
    total = 0
    for monomial, c in size.terms:
        parts = [_least_atom(a) for a in monomial]
        if any(p is None or (len(parts) > 1 and p < 0) for p in parts) or (c < 0 and monomial):
            return None
        total += c * math.prod(parts)
    return total


def _least_atom(atom) -> int | None:
    match atom:
        case Sym():
            return 1
        case Div(of, by):
            below = least(of)
            return None if below is None else below // by
        case Extreme(kind, args):
            parts = [least(a) for a in args]
            return None if None in parts else (min if kind == "min" else max)(parts)

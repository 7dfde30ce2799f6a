"""Symbolic sizes: from torch's sympy expressions to the IR's."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from ...ir.errors import CaptureError, IRError
from ...ir.expr import Expr, Size, ceildiv, floordiv, maximum, minimum


def size_of(value, symbols: Mapping[str, Size]) -> Size:
    """The IR's size for an int, a `torch.SymInt` or a sympy expression; `symbols` maps torch's names to sizes.

    Raises `CaptureError` SC430 for arithmetic that sizes cannot hold (division by another size, powers of it).
    """
    if isinstance(value, int):
        return value
    expr = value.node.expr if hasattr(value, "node") else value
    try:
        return _convert(expr, symbols)
    except KeyError:
        raise CaptureError(
            "SC412",
            f"the length {expr} depends on the values of a tensor, which a graph cannot hold",
            hints=["use torch.where, which keeps the size", "give lengths as sizes of inputs"],
        ) from None
    except IRError as error:
        raise CaptureError(
            "SC430",
            f"the length {expr} cannot be expressed ({error})",
            hints=["sizes are made of +, -, x, floor division by constants, min and max"],
        ) from None


def _convert(e: sympy.Expr, symbols: Mapping[str, Size]) -> Size:
    if e.is_Integer:
        return int(e)
    if e.is_Symbol:
        return symbols[e.name]
    return _RULES[type(e).__name__](_convert, e.args, symbols)


def _sum(convert, args, symbols) -> Size:
    total: Size = 0
    for a in args:
        total = total + convert(a, symbols)
    return total


def _product(convert, args, symbols) -> Size:
    # A rational factor comes from an exact division such as T/2 where T is known to be even.
    total, by = 1, 1
    for a in args:
        if a.is_Rational and not a.is_Integer:
            total, by = total * int(a.p), by * int(a.q)
        else:
            total = total * convert(a, symbols)
    return floordiv(total, by)


def _power(convert, args, symbols) -> Size:
    base, exponent = convert(args[0], symbols), int(args[1])
    if exponent < 0:
        raise IRError("a negative power")
    total: Size = 1
    for _ in range(exponent):
        total = total * base
    return total


def _two(function):
    def rule(convert, args, symbols) -> Size:
        a, b = (convert(x, symbols) for x in args)
        if isinstance(b, int):
            return function(a, b)
        quotient = _quotient(a, b)
        if quotient is None:
            raise IRError("division by something that is not constant")
        return function(quotient, 1)

    return rule


def _quotient(a: Size, b: Expr) -> Size | None:
    """a / b where b divides a without remainder (long division of polynomials), else None."""
    lead, by = b.terms[0]
    total: Size = 0
    for _ in range(8):
        if isinstance(a, int):
            return total if a == 0 else None
        monomial, count = a.terms[0]
        rest = list(monomial)
        for atom in lead:
            if atom not in rest:
                return None
            rest.remove(atom)
        if count % by:
            return None
        factor: Size = Expr(((tuple(rest), count // by),)) if rest else count // by
        total, a = total + factor, a - b * factor
    return None


def _divided(function):
    """Rounding of a true division to an integer; sizes are not negative, so truncation is floor."""

    def rule(convert, args, symbols) -> Size:
        (inner,) = args
        if inner.is_Integer or type(inner).__name__ in ("Identity", "ToFloat", "Add", "Symbol"):
            return convert(inner, symbols)
        if type(inner).__name__ not in ("IntTrueDiv", "FloatTrueDiv"):
            raise IRError(f"rounding of {inner}")
        return _two(function)(convert, inner.args, symbols)

    return rule


def _extreme(function):
    return lambda convert, args, symbols: function(*(convert(a, symbols) for a in args))


def _same(convert, args, symbols) -> Size:
    return convert(args[0], symbols)


_RULES = {
    "Add": _sum,
    "Mul": _product,
    "Pow": _power,
    "PowByNatural": _power,
    "FloorDiv": _two(floordiv),
    "CleanDiv": _two(floordiv),
    "CeilDiv": _two(ceildiv),
    "Mod": _two(lambda a, b: a % b),
    "PythonMod": _two(lambda a, b: a % b),
    "ModularIndexing": lambda convert, args, symbols: (
        _two(floordiv)(convert, args[:2], symbols) % int(_convert(args[2], symbols))
    ),
    "floor": _divided(floordiv),
    "ceiling": _divided(ceildiv),
    "FloorToInt": _divided(floordiv),
    "TruncToInt": _divided(floordiv),
    "CeilToInt": _divided(ceildiv),
    "Max": _extreme(maximum),
    "Min": _extreme(minimum),
    "Identity": _same,
    "ToFloat": _same,
}

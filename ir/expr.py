"""Sizes as integer expressions over named symbols: +, -, x, floor division by constants, min and max.

A size is a Python int where it is known and an `Expr` where it is not. Expressions are kept in a normal form (a
polynomial over symbols and opaque `//`, min and max atoms), so most equal sizes are equal objects; `same` settles the
rest for one symbol by evaluating both sides over two periods beyond their last breakpoint.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import NamedTuple, Union

from .errors import IRError


class Sym(NamedTuple):
    """A named unknown size."""

    name: str


class Div(NamedTuple):
    """⌊of / by⌋."""

    of: Expr
    by: int


class Extreme(NamedTuple):
    """The smallest or the largest of several sizes."""

    kind: str  # "min" or "max"
    args: tuple  # of int or Expr, sorted by text


Atom = Sym | Div | Extreme
Size = Union[int, "Expr"]


class Expr:
    """A non-constant integer expression in normal form; build it with `symbol` and arithmetic."""

    __slots__ = ("terms", "_hash", "__dict__")

    def __init__(self, terms: tuple[tuple[tuple[Atom, ...], int], ...]):
        self.terms = terms
        self._hash = hash(terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other) -> bool:
        return self is other or (isinstance(other, Expr) and self._hash == other._hash and self.terms == other.terms)

    def __add__(self, other: Size) -> Size:
        total = dict(self.terms)
        for monomial, c in _terms(other):
            total[monomial] = total.get(monomial, 0) + c
        return _normal(total)

    __radd__ = __add__

    def __neg__(self) -> Size:
        return _normal({m: -c for m, c in self.terms})

    def __sub__(self, other: Size) -> Size:
        return self + (-other)

    def __rsub__(self, other: Size) -> Size:
        return -self + other

    def __mul__(self, other: Size) -> Size:
        total: dict = {}
        for m1, c1 in self.terms:
            for m2, c2 in _terms(other):
                m = tuple(sorted(m1 + m2, key=_key))
                total[m] = total.get(m, 0) + c1 * c2
        return _normal(total)

    __rmul__ = __mul__

    def __floordiv__(self, by: int) -> Size:
        return floordiv(self, by)

    def __mod__(self, by: int) -> Size:
        return self - by * floordiv(self, by)

    @cached_property
    def text(self) -> str:
        """The expression as `parse_size` reads it."""
        return _print(self)

    def __repr__(self) -> str:
        return self.text


def symbol(name: str) -> Expr:
    """The unknown size called `name`, at least 1."""
    return Expr((((Sym(name),), 1),))


def floordiv(a: Size, by: int) -> Size:
    """⌊a / by⌋ for a positive constant `by`, with multiples of `by` pulled out and nested divisions merged."""
    if by <= 0:
        raise IRError(f"sizes are divided by positive constants only, not by {by}")
    if isinstance(a, int):
        return a // by
    if by == 1:
        return a
    whole = _normal({m: c // by for m, c in a.terms})
    rest = _normal({m: c % by for m, c in a.terms})
    if isinstance(rest, int):
        return whole  # 0 <= rest < by
    constant = dict(rest.terms).get((), 0)
    common = math.gcd(by, *(c for m, c in rest.terms if m))
    if common > 1:
        rest, by = _normal({m: c // common for m, c in rest.terms}), by // common
        constant //= common
        if by == 1:
            return whole + rest
    moving = [(m, c) for m, c in rest.terms if m] if isinstance(rest, Expr) else []
    if len(moving) == 1 and moving[0][1] == 1 and len(moving[0][0]) == 1 and isinstance(moving[0][0][0], Div):
        inner = moving[0][0][0]
        return whole + floordiv(inner.of + constant * inner.by, by * inner.by)
    return whole + _normal({(Div(rest, by),): 1})


def ceildiv(a: Size, by: int) -> Size:
    """⌈a / by⌉."""
    return floordiv(a + (by - 1), by)


def minimum(*sizes: Size) -> Size:
    """The smallest of several sizes."""
    return _extreme("min", min, sizes)


def maximum(*sizes: Size) -> Size:
    """The largest of several sizes."""
    return _extreme("max", max, sizes)


def _extreme(kind: str, pick, sizes) -> Size:
    flat: list[Size] = []
    for s in sizes:
        atom = _single(s)
        flat += atom.args if isinstance(atom, Extreme) and atom.kind == kind else [s]
    constants = [s for s in flat if isinstance(s, int)]
    moving = {s for s in flat if not isinstance(s, int)}
    # Two expressions at a constant distance: one of them always wins.
    for s in list(moving):
        for t in list(moving - {s}):
            distance = s - t
            if s in moving and t in moving and isinstance(distance, int):
                moving.discard(t if (distance > 0) == (kind == "max") else s)
    args = sorted([*moving, *([pick(constants)] if constants else [])], key=str)
    return args[0] if len(args) == 1 else _normal({(Extreme(kind, tuple(args)),): 1})


def _single(s: Size):
    if isinstance(s, Expr) and len(s.terms) == 1 and s.terms[0][1] == 1 and len(s.terms[0][0]) == 1:
        return s.terms[0][0][0]
    return None


def _terms(s: Size):
    return s.terms if isinstance(s, Expr) else ((((), int(s)),) if s else ())


def _normal(total: dict) -> Size:
    kept = {m: c for m, c in total.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Expr(tuple(sorted(kept.items(), key=lambda item: (-len(item[0]), [_key(a) for a in item[0]]))))


def _key(atom: Atom) -> str:
    return str(atom)


def symbols(s: Size) -> frozenset[str]:
    """Names of the symbols in `s`."""
    if isinstance(s, int):
        return frozenset()
    found = set()
    for monomial, _ in s.terms:
        for atom in monomial:
            match atom:
                case Sym(name):
                    found.add(name)
                case Div(of, _):
                    found |= symbols(of)
                case Extreme(_, args):
                    for a in args:
                        found |= symbols(a)
    return frozenset(found)


def evaluate(s: Size, sizes: Mapping[str, int]) -> int:
    """The value of `s` where each symbol has the size given."""
    if isinstance(s, int):
        return s
    return sum(c * math.prod(_atom_value(a, sizes) for a in m) for m, c in s.terms)


def _atom_value(atom: Atom, sizes: Mapping[str, int]) -> int:
    match atom:
        case Sym(name):
            if name not in sizes:
                raise IRError(f"the size {name} is not known here")
            return sizes[name]
        case Div(of, by):
            return evaluate(of, sizes) // by
        case Extreme(kind, args):
            values = [evaluate(a, sizes) for a in args]
            return min(values) if kind == "min" else max(values)


def substitute(s: Size, sizes: Mapping[str, Size]) -> Size:
    """`s` with symbols replaced by other sizes."""
    if isinstance(s, int):
        return s
    total: Size = 0
    for monomial, c in s.terms:
        product: Size = c
        for atom in monomial:
            match atom:
                case Sym(name):
                    value = sizes.get(name, symbol(name))
                case Div(of, by):
                    value = floordiv(substitute(of, sizes), by)
                case Extreme(kind, args):
                    parts = [substitute(a, sizes) for a in args]
                    value = minimum(*parts) if kind == "min" else maximum(*parts)
            product = product * value
        total = total + product
    return total


@lru_cache(maxsize=65536)
def same(a: Size, b: Size) -> bool:
    """Whether two sizes are equal for every value (at least 1) of their symbols.

    By normal form; else, for one symbol without products, by evaluation. Such an expression is, beyond its last
    breakpoint, a line plus something periodic, so agreement over two periods there is agreement for ever.
    """
    if a == b:
        return True
    difference = a - b
    if isinstance(difference, int):
        return difference == 0
    names = symbols(difference)
    if len(names) != 1:
        return False
    shape = asymptote(difference)
    if shape is None or shape.slope != 0:
        return False
    (name,) = names
    return all(evaluate(difference, {name: n}) == 0 for n in range(1, shape.start + 2 * shape.period + 1))


def slope(s: Size) -> Fraction | None:
    """How fast `s` grows with its only symbol, in the long run; None where that is no number (a product of sizes)."""
    line = asymptote(s)
    return line.slope if line else None


class Line(NamedTuple):
    """slope*n + low <= value <= slope*n + high for n >= 0; from `start` on the value is that line plus a period."""

    slope: Fraction
    low: Fraction
    high: Fraction
    period: int
    start: int


def asymptote(s: Size) -> Line | None:
    """How a size of one symbol grows; None where that is no line (a product of sizes)."""
    if isinstance(s, int):
        return Line(Fraction(0), Fraction(s), Fraction(s), 1, 1)
    slope = low = high = Fraction(0)
    period = start = 1
    for monomial, c in s.terms:
        if len(monomial) > 1:
            return None
        line = Line(Fraction(0), Fraction(1), Fraction(1), 1, 1) if not monomial else _atom_line(monomial[0])
        if line is None:
            return None
        slope += c * line.slope
        low += min(c * line.low, c * line.high)
        high += max(c * line.low, c * line.high)
        period, start = math.lcm(period, line.period), max(start, line.start)
    return Line(slope, low, high, period, start)


def _atom_line(atom: Atom) -> Line | None:
    match atom:
        case Sym():
            return Line(Fraction(1), Fraction(0), Fraction(0), 1, 1)
        case Div(of, by):
            line = asymptote(of)
            if line is None:
                return None
            period = line.period * by // math.gcd(int(line.slope * line.period), by)
            return Line(line.slope / by, line.low / by - 1, line.high / by, period, line.start)
        case Extreme(kind, args):
            lines = [asymptote(a) for a in args]
            if any(line is None for line in lines):
                return None
            best = (min if kind == "min" else max)(line.slope for line in lines)
            start = max(line.start for line in lines)
            for line in lines:  # past this point a steeper (or flatter) argument can no longer win
                for other in lines:
                    if line.slope != other.slope:
                        gap = max(abs(line.high - other.low), abs(other.high - line.low))
                        start = max(start, math.ceil(gap / abs(line.slope - other.slope)) + 1)
            winners = [line for line in lines if line.slope == best]
            low, high = min(line.low for line in winners), max(line.high for line in winners)
            # Below the crossing the others bound the value; widen by what they can differ there.
            for line in lines:
                reach = abs(line.slope - best) * start
                low, high = min(low, line.low - reach), max(high, line.high + reach)
            return Line(best, low, high, math.lcm(*(line.period for line in lines)), start)


def _print(e: Expr) -> str:
    parts = []
    for monomial, c in e.terms:
        text = "*".join(_print_atom(a) for a in monomial)
        if c == 1 and len(monomial) == 1 and isinstance(monomial[0], Div):
            text = text[1:-1]  # a//b needs its brackets only as a factor or behind a minus
        if not text:
            text = str(abs(c))
        elif abs(c) != 1:
            text = f"{abs(c)}*{text}"
        parts.append(("-" if c < 0 else "+") + text)
    joined = "".join(parts)
    return joined[1:] if joined[0] == "+" else joined


def _print_atom(atom: Atom) -> str:
    match atom:
        case Sym(name):
            return name
        case Div(of, by):
            inner = str(of)
            return f"({inner}//{by})" if inner.isidentifier() else f"(({inner})//{by})"
        case Extreme(kind, args):
            return f"{kind}({', '.join(str(a) for a in args)})"


@lru_cache(maxsize=65536)
def parse_size(text: str) -> Size:
    """Read a size back from its text, for example `2*((T-3)//4)-1`."""
    text = text.strip()
    if text.isdigit():
        return int(text)
    if text.isidentifier():
        return symbol(text)
    try:
        return from_ast(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise IRError(f"not a size: {text!r}") from None


def from_ast(node: ast.AST) -> Size:
    """A size from the syntax tree of its text."""
    match node:
        case ast.Constant(value=int(v)):
            return v
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return -from_ast(x)
        case ast.BinOp(left=x, op=o, right=y):
            left, right = from_ast(x), from_ast(y)
            match o:
                case ast.Add():
                    return left + right
                case ast.Sub():
                    return left - right
                case ast.Mult():
                    return left * right
                case ast.FloorDiv():
                    return floordiv(left, right)
                case ast.Mod():
                    return left % right
        case ast.Call(func=ast.Name(id="min"), args=args):
            return minimum(*(from_ast(a) for a in args))
        case ast.Call(func=ast.Name(id="max"), args=args):
            return maximum(*(from_ast(a) for a in args))
    raise IRError(f"not a size: {ast.unparse(node)}")

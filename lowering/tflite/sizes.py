"""Symbolic sizes in a file: literal slice bounds where possible, int32 arithmetic on SHAPE where not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.errors import UnsupportedError
from ...ir.expr import Div, Expr, Extreme, Size, Sym, same, symbol
from .body import Body, T


def bound(at: Size, n: Size, end: bool = False):
    """A slice bound as a literal for STRIDED_SLICE (negative: from the end; None: the very end); else Ellipsis."""
    if end and same(at, n):
        return None
    if isinstance(at, int):
        return at
    behind = n - at
    if isinstance(behind, int) and behind > 0:
        return -behind
    atom = at.terms[0][0][0] if len(at.terms) == 1 and at.terms[0][1] == 1 and len(at.terms[0][0]) == 1 else None
    if isinstance(atom, Extreme) and len(atom.args) == 2 and not isinstance(n, int):
        # STRIDED_SLICE clips its bounds to the dimension: min(c, n) is c, max(n - c, 0) is -c.
        first, second = atom.args
        for a, b in ((first, second), (second, first)):
            if atom.kind == "min" and isinstance(a, int) and a >= 0 and same(b, n):
                return a
            behind = n - b if isinstance(b, Expr) else None
            if atom.kind == "max" and a == 0 and isinstance(behind, int) and behind > 0:
                return -behind
    return Ellipsis


def size_value(body: Body, s: Size) -> T:
    """A size as an int32 scalar tensor."""
    if isinstance(s, int):
        return body.scalar(s, "i32")
    if s not in body._sized:  # reading only inputs keeps delegated partitions whole
        body._sized[s] = _read(body, s) if s in body.dims else _compute(body, s)
    return body._sized[s]


def _read(body: Body, s: Expr) -> T:
    t, axis = body.dims[s]
    shape = body.op("SHAPE", [t], "i32", (t.rank,), outType=body.file.schema.TensorType.INT32)
    at = [body.const(np.array([i], np.int32)) for i in (axis, axis + 1, 1)]
    return body.op("STRIDED_SLICE", [shape, *at], "i32", (), shrinkAxisMask=1)


def _compute(body: Body, s: Expr) -> T:
    total: T | None = None
    for monomial, factor in s.terms:
        term: T | None = None
        for atom in monomial:
            value = _atom(body, atom)
            term = value if term is None else body.mul(term, value)
        if term is None:
            term = body.scalar(factor, "i32")
        elif factor != 1:
            term = body.mul(term, factor)
        total = term if total is None else body.add(total, term)
    return total


def _atom(body: Body, atom) -> T:
    match atom:
        case Sym(name):
            return _symbol(body, name)
        case Div(of, by):
            return body.binary("FLOOR_DIV", size_value(body, of), body.scalar(by, "i32"))
        case Extreme(kind, args):
            values = [size_value(body, a) for a in args]
            total = values[0]
            for v in values[1:]:
                total = body.binary({"min": "MINIMUM", "max": "MAXIMUM"}[kind], total, v)
            return total


def _symbol(body: Body, name: str) -> T:
    """A symbol that no input has as a size of its own, from one that has it as factor * symbol + constant."""
    one = symbol(name)
    for s in body.dims:
        for factor in {c for m, c in s.terms if m}:
            rest = s - factor * one
            if isinstance(rest, int):
                whole = body.sub(_read(body, s), rest) if rest else _read(body, s)
                return body.binary("FLOOR_DIV", whole, body.scalar(factor, "i32"))
    raise UnsupportedError("SC311", f"the size {name} cannot be read off an input's shape", [body.place])


def size_vector(body: Body, sizes: Sequence[Size]) -> T:
    """Sizes as an int32 vector: a constant where all are known."""
    if all(isinstance(s, int) for s in sizes):
        return body.const(np.array(sizes, np.int32))
    return body.op("PACK", [size_value(body, s) for s in sizes], "i32", (len(sizes),), valuesCount=len(sizes), axis=0)


def size_matrix(body: Body, pairs: Sequence[tuple[Size, Size]]) -> T:
    """Pairs of sizes as an int32 matrix."""
    if all(isinstance(p, int) for pair in pairs for p in pair):
        return body.const(np.array(pairs, np.int32))
    rows = [size_vector(body, pair) for pair in pairs]
    return body.op("PACK", rows, "i32", (len(rows), 2), valuesCount=len(rows), axis=0)

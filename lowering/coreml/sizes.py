"""Symbolic sizes at run time: the shape of an input, then int32 arithmetic, each expression once a graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ...ir.errors import UnsupportedError
from ...ir.expr import Div, Expr, Extreme, Size, Sym, evaluate, symbol, symbols
from ..least import least

if TYPE_CHECKING:
    from .emit import Emitter


class Sizes:
    """Computes sizes as int32 tensors of shape [1]; known sizes are constants."""

    def __init__(self, e: Emitter):
        self.e = e
        self.done: dict = {}

    def vector(self, sizes) -> object:
        """Sizes in a row, as an int32 vector."""
        sizes = tuple(sizes)
        if all(isinstance(s, int) for s in sizes):
            return np.array(sizes, np.int32)
        key = ("vector", sizes)
        if key not in self.done:
            parts = [self.one(s) for s in sizes]
            self.done[key] = parts[0] if len(parts) == 1 else self._op("concat", values=parts, axis=0)
        return self.done[key]

    def scalar(self, size: Size) -> object:
        """A size as an int32 scalar."""
        if isinstance(size, int):
            return np.int32(size)
        key = ("scalar", size)
        if key not in self.done:
            self.done[key] = self._op("squeeze", x=self.one(size), axes=[0])
        return self.done[key]

    def one(self, size: Size) -> object:
        """A size as an int32 tensor of shape [1]."""
        if isinstance(size, int):
            return np.array([size], np.int32)
        if size not in self.done:
            self.done[size] = self._sum(size)
        return self.done[size]

    def _op(self, kind: str, **inputs):
        with self.e.located("sizes"):
            return self.e.op(kind, **inputs)

    def _sum(self, size: Expr):
        total, constant = None, 0
        for monomial, c in size.terms:
            if not monomial:
                constant = c
                continue
            term = None
            for atom in monomial:
                factor = self._atom(atom)
                term = factor if term is None else self._op("mul", x=term, y=factor)
            if c != 1:
                term = self._op("mul", x=term, y=np.array([c], np.int32))
            total = term if total is None else self._op("add", x=total, y=term)
        return self._op("add", x=total, y=np.array([constant], np.int32)) if constant else total

    def _atom(self, atom):
        if atom in self.done:
            return self.done[atom]
        match atom:
            case Sym(name):
                value = self._symbol(name)
            case Extreme(kind, args):
                value = self.one(args[0])
                for a in args[1:]:
                    value = self._op("minimum" if kind == "min" else "maximum", x=value, y=self.one(a))
            case Div(of, by):
                value = self._divided(of, by)
        self.done[atom] = value
        return value

    def _divided(self, of: Size, by: int):
        """⌊of / by⌋; an `of` that may be negative is moved up by a multiple of `by` first: no rounding below zero."""
        low = least(of)
        if low is None:
            one, step = self.one(of), np.array([by], np.int32)
            return self._op("floor_div", x=self._op("sub", x=one, y=self._op("mod", x=one, y=step)), y=step)
        lift = max(0, math.ceil(-low / by))
        value = self._op("floor_div", x=self.one(of + lift * by), y=np.array([by], np.int32))
        return self._op("sub", x=value, y=np.array([lift], np.int32)) if lift else value

    def _symbol(self, name: str):
        """A symbol from the shape of the input that shows it, solving `a * symbol + b` where it is not plain."""
        best = None
        for v in self.e.graph.inputs:
            for axis, s in enumerate(v.type.sizes):
                if isinstance(s, int) or symbols(s) != {name}:
                    continue
                b = evaluate(s, {name: 0})
                a = evaluate(s, {name: 1}) - b
                if s == symbol(name) * a + b and (best is None or (a, b) == (1, 0)):
                    best = (v, axis, a, b)
        if best is None:
            raise UnsupportedError(
                "SC301",
                f"the size {name} cannot be computed from the inputs of graph {self.e.graph.name}",
                hints=["give one input a dimension of this size"],
            )
        v, axis, a, b = best
        if ("shape", v.name) not in self.done:
            self.done["shape", v.name] = self._op("shape", x=self.e.port(v))
        value = self._op("slice_by_index", x=self.done["shape", v.name], begin=[axis], end=[axis + 1])
        if b:
            value = self._op("sub", x=value, y=np.array([b], np.int32))
        return self._op("floor_div", x=value, y=np.array([a], np.int32)) if a != 1 else value

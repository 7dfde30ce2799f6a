"""Symbolic sizes at run time: Shape of an input, then integer arithmetic, each expression once a graph."""

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
    """Computes sizes as int64 tensors of shape [1]; known sizes are constants."""

    def __init__(self, e: Emitter):
        self.e = e
        self.done: dict = {}

    def vector(self, sizes) -> object:
        """Sizes in a row, as an int64 vector."""
        sizes = tuple(sizes)
        if all(isinstance(s, int) for s in sizes):
            return np.array(sizes, np.int64)
        key = ("vector", sizes)
        if key not in self.done:
            parts, run = [], []
            for s in sizes:
                if isinstance(s, int):
                    run.append(s)
                    continue
                parts += [np.array(run, np.int64)] * bool(run) + [self.one(s)]
                run = []
            parts += [np.array(run, np.int64)] * bool(run)
            self.done[key] = parts[0] if len(parts) == 1 else self._node("Concat", parts, axis=0)
        return self.done[key]

    def scalar(self, size: Size) -> object:
        """A size as an int64 scalar."""
        if isinstance(size, int):
            return np.array(size, np.int64)
        key = ("scalar", size)
        if key not in self.done:
            self.done[key] = self._node("Squeeze", [self.one(size), np.array([0], np.int64)])
        return self.done[key]

    def one(self, size: Size) -> object:
        """A size as an int64 tensor of shape [1]."""
        if isinstance(size, int):
            return np.array([size], np.int64)
        if size not in self.done:
            self.done[size] = self._sum(size)
        return self.done[size]

    def _node(self, kind: str, inputs, **attrs):
        with self.e.located("sizes"):
            return self.e.node(kind, inputs, **attrs)

    def _sum(self, size: Expr):
        total, constant = None, 0
        for monomial, c in size.terms:
            if not monomial:
                constant = c
                continue
            term = None
            for atom in monomial:
                factor = self._atom(atom)
                term = factor if term is None else self._node("Mul", [term, factor])
            if abs(c) != 1 or (c < 0 and total is None):
                term, c = self._node("Mul", [term, np.array([c], np.int64)]), 1
            total = term if total is None else self._node("Add" if c > 0 else "Sub", [total, term])
        return self._node("Add", [total, np.array([constant], np.int64)]) if constant else total

    def _atom(self, atom):
        if atom in self.done:
            return self.done[atom]
        match atom:
            case Sym(name):
                value = self._symbol(name)
            case Extreme(kind, args):
                value = self._node("Min" if kind == "min" else "Max", [self.one(a) for a in args])
            case Div(of, by):
                value = self._divided(of, by)
        self.done[atom] = value
        return value

    def _divided(self, of: Size, by: int):
        """⌊of / by⌋; ONNX rounds towards zero: an `of` that may be negative is moved up by a multiple of `by` first."""
        low = least(of)
        if low is None:
            one, step = self.one(of), np.array([by], np.int64)
            return self._node("Div", [self._node("Sub", [one, self._node("Mod", [one, step])]), step])
        lift = max(0, math.ceil(-low / by))
        value = self._node("Div", [self.one(of + lift * by), np.array([by], np.int64)])
        return self._node("Sub", [value, np.array([lift], np.int64)]) if lift else value

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
            self.done["shape", v.name] = self._node("Shape", [v])
        value = self._node("Gather", [self.done["shape", v.name], np.array([axis], np.int64)], axis=0)
        if b:
            value = self._node("Sub", [value, np.array([b], np.int64)])
        return self._node("Div", [value, np.array([a], np.int64)]) if a != 1 else value

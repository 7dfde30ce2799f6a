"""Masks and position tables are understood by running them: the part of a graph that depends on the length alone."""

from __future__ import annotations

import numpy as np

from ...ir.expr import evaluate
from ...ir.graph import Value
from ...ir.registry import concrete, definition
from ...ir.types import DTYPES
from .facts import Score, Stream, refuse
from .step import Step

NEVER = -9000.0  # added to a score before a softmax this is no score at all: e^-9000 is 0 in float64


class Probe:
    """Evaluates values of the offline graph at one length; streams count as zeros."""

    def __init__(self, step: Step, ticks: int):
        self.step, self.sizes = step, {step.sizes.symbol: ticks, **step.sizes.constants}
        self.known: dict[int, np.ndarray] = {}

    def shape(self, v: Value) -> tuple[int, ...]:
        """The sizes of `v` at this length."""
        return tuple(evaluate(s, self.sizes) for s in v.type.sizes)

    def array(self, v: Value) -> np.ndarray:
        """The numbers of `v`."""
        if v.known:
            return v.array
        if id(v) not in self.known:
            fact = self.step.fact(v)
            if isinstance(fact, Stream) or (isinstance(fact, Score) and v.op.kind in ("matmul", "linear")):
                self.known[id(v)] = np.zeros(self.shape(v), DTYPES[v.type.dtype])
            elif v.op is None:
                raise refuse(
                    "SC206", f"it depends on the input {v.name}, which is known only when it runs", self.step.op
                )
            else:
                self.evaluate(v)
        return self.known[id(v)]

    def evaluate(self, v: Value) -> None:
        """Run the op behind `v`."""
        operands = [None if o is None else self.array(o) for o in v.op.operands]
        weights = v.op.graph.weights
        try:
            made = definition(v.op.kind).run(v.op, operands, self.sizes, lambda name: weights[name].array)
        except IndexError:
            length = self.sizes[self.step.sizes.symbol]
            raise refuse("SC206", f"its table has no rows for an utterance of {length} frames", v.op) from None
        for r, array in zip(v.op.results, made):
            self.known[id(r)] = np.asarray(array)

    def moved(self, v: Value, source: Value, codes: np.ndarray) -> np.ndarray:
        """`v`, had `source` held `codes`: where elements of `source` go when they are only moved."""
        if v is source:
            return codes
        op = v.op
        if op is None or not definition(op.kind).carries or op.kind == "gather":
            raise refuse(
                "SC204", f"scores go through {op.kind if op else v}, which does more than move them", self.step.op
            )
        operands = [
            None if o is None else self.moved(o, source, codes) if _reads(o, source) else self.array(o)
            for o in op.operands
        ]
        attrs = {k: concrete(a, self.sizes) for k, a in op.attrs.items()}
        return np.asarray(definition(op.kind).meaning(*operands, **attrs))


def _reads(v: Value, source: Value) -> bool:
    return v is source or (v.op is not None and any(o is not None and _reads(o, source) for o in v.op.operands))

"""Compute at compile time what depends on weights and literals alone."""

from __future__ import annotations

from ..ir.expr import Expr
from ..ir.graph import Builder, Graph, Op
from ..ir.registry import definition
from .base import Close, Context, Pass


class Fold(Pass):
    """Replace an op on known values by a weight, computed when first needed.

    `growth`: a result may be this many times as large as what it is computed from (or 4,096 elements): a position
    table is worth keeping as a formula, a transposed weight is not.
    """

    # A value computed here is rounded to its type once more than one computed in float64.
    name, stage, equal = "fold", "normalize", Close(rtol=1e-6)
    growth: float = 2.0

    def run(self, graph: Graph, context: Context) -> None:
        for op in graph.ops:
            if not foldable(op):
                continue
            new = sum(_elements(r) for r in op.results)
            old = sum(_elements(v) for v in op.operands if v is not None)
            if new > max(4096, self.growth * old):
                context.remark("missed", self.name, f"{op.kind}: {new} elements from {old} would grow the file", op)
                continue
            if not context.allow():
                return
            builder = Builder(graph, op.loc)
            for i, result in enumerate(op.results):
                known = [v for v in op.operands if v is not None]
                name = (op.loc.path or graph.name) + "." + op.kind
                recipe = f"{op.kind}#{i}{sorted(op.attrs.items(), key=str)}"
                folded = builder.derived(name, recipe, result.type, _compute(op, i), *known)
                graph.replace(result, folded)
        graph.sweep()


def foldable(op: Op) -> bool:
    """Whether every operand is known, the results' sizes too, and no attribute is a symbolic size."""
    kept = definition(op.kind)
    return (
        not kept.effect
        and op.kind not in ("read", "dequantize", "quantize")
        and not (op.kind == "cast" and op.operands[0].type.dtype == "f16")  # stored small on purpose
        and all(v is None or v.known for v in op.operands)
        and all(r.type.static and all(d.time is None for d in r.type.shape) for r in op.results)
        and not any(_symbolic(a) for a in op.attrs.values())
    )


def _symbolic(attr) -> bool:
    return isinstance(attr, Expr) or (isinstance(attr, tuple) and any(map(_symbolic, attr)))


def _elements(value) -> int:
    n = 1
    for s in value.type.sizes:
        n *= s
    return n


def _compute(op: Op, index: int):
    """A closure that evaluates `op` from the arrays of its present operands."""
    present = [v is not None for v in op.operands]
    weights = op.graph.weights
    frozen = Op(op.kind, op.operands, op.attrs, op.loc)

    def compute(*arrays):
        rest = iter(arrays)
        full = [next(rest) if p else None for p in present]
        return definition(frozen.kind).run(frozen, full, {}, lambda n: weights[n].array)[index]

    return compute

"""Common subexpressions and dead code."""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.registry import definition
from .base import Context, Exact, Pass


class CommonSubexpressions(Pass):
    """Compute once what is computed twice: same op, operands and attributes."""

    name, stage, equal = "cse", "normalize", Exact()

    def run(self, graph: Graph, context: Context) -> None:
        seen: dict[tuple, tuple] = {}
        for op in graph.ops:
            if definition(op.kind).effect:
                continue
            operands = tuple(_identity(v) for v in op.operands)
            key = (op.kind, operands, tuple(sorted(op.attrs.items(), key=lambda item: item[0])))
            first = seen.setdefault(key, op.results)
            if first is op.results:
                continue
            if not context.allow():
                return
            for old, new in zip(op.results, first):
                graph.replace(old, new)
            graph.erase(op)


def _identity(value):
    """Two operands with one identity hold the same values."""
    if value is None:
        return None
    if value.kind == "const":
        return (value.type.dtype, value.payload.tobytes())
    if value.kind == "weight" and value.known and value.payload._digest:
        return (value.payload.digest, str(value.type))
    return id(value)


class DeadCode(Pass):
    """Remove ops that nothing reads."""

    name, stage, equal = "dce", "normalize", Exact()

    def run(self, graph: Graph, context: Context) -> None:
        graph.sweep()

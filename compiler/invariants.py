"""What must hold at the end of each stage, beyond well-formedness."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.errors import IRError
from ..ir.graph import Graph, Module
from ..ir.registry import definition
from ..passes.base import Pass

INVARIANTS: dict[str, Callable[[Graph], str | None]] = {}


def _after(stage: str):
    def register(function):
        INVARIANTS[stage] = function
        return function

    return register


@_after("normalize")
def _live(graph: Graph) -> str | None:
    """Every op is read by another, returned, or has an effect."""
    returned = {id(v) for v in graph.outputs}
    for op in graph.ops:
        if not definition(op.kind).effect and not any(r.users or id(r) in returned for r in op.results):
            return f"{op.kind} at {op.loc} is dead"
    return None


@_after("optimize")
def _float(graph: Graph) -> str | None:
    """Nothing is quantized before the stage that compresses, but what the model itself quantized."""
    for op in graph.ops:
        if op.attrs.get("dynamic") or op.attrs.get("out"):
            return f"{op.kind} at {op.loc} is quantized already"
    return None


@_after("compress")
def _scaled(graph: Graph) -> str | None:
    """Every quantized type has a positive scale."""
    for op in graph.ops:
        for v in (*op.operands, *op.results):
            q = v.type.quant if v is not None else None
            if q is not None and isinstance(q.scale, float) and not q.scale > 0:
                return f"{op.kind} at {op.loc} has scale {q.scale}"
    return None


def check_stage(p: Pass, module: Module) -> None:
    """Raise if a pass left the graph without the invariant of its stage."""
    invariant = INVARIANTS.get(p.stage)
    for graph in module.graphs.values():
        broken = invariant(graph) if invariant else None
        if broken:
            raise IRError(f"after {p}: {broken}", code="SC106")

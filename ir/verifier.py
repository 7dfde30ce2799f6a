"""Checks that a graph is well-formed: order, uses, types inferred again, locations, names."""

from __future__ import annotations

from .errors import IRError
from .graph import Graph, Module, Op
from .registry import definition


def verify(graph: Graph | Module) -> None:
    """Raise `IRError`, naming the op and its place in the user's model, at the first thing that is wrong."""
    if isinstance(graph, Module):
        for g in graph.graphs.values():
            verify(g)
        return
    seen = {id(v) for v in graph.inputs} | {id(v) for v in graph.states.values()}
    written: set[str] = set()
    for op in graph.ops:
        _verify_op(graph, op, seen)
        if definition(op.kind).next_state is not None:
            name = next(v.name for v in op.operands if v is not None and v.kind == "state")
            if name in written:
                raise _wrong(op, f"state @{name} is written twice")
            written.add(name)
        seen.update(id(r) for r in op.results)
    if len(graph.outputs) != len(graph.output_names) or len(set(graph.output_names)) != len(graph.output_names):
        raise IRError(f"graph {graph.name}: outputs want one name each")
    for v, name in zip(graph.outputs, graph.output_names):
        if v.kind in ("result", "input", "state") and id(v) not in seen:
            raise IRError(f"graph {graph.name}: output {name} is not computed here")


def _verify_op(graph: Graph, op: Op, seen: set[int]) -> None:
    if not op.loc.path and not op.loc.passes and not op.loc.source:
        raise _wrong(op, "has no location")
    for v in op.operands:
        if v is None:
            continue
        if op not in v.users and v.kind != "const":
            raise _wrong(op, f"reads {v}, which does not know it")
        if v.kind in ("result", "input", "state") and id(v) not in seen:
            raise _wrong(op, f"reads {v} before it is computed")
        if v.kind == "weight" and graph.weights[v.name] is not v.payload:
            raise _wrong(op, f"reads weight ${v.name} of another module")
    again = Op(op.kind, op.operands, dict(op.attrs), op.loc)
    try:
        types = definition(op.kind).infer(again)
    except IRError as error:
        error.where.append(str(op.loc))
        raise
    if types != tuple(r.type for r in op.results):
        shown = ", ".join(str(r.type) for r in op.results)
        raise _wrong(op, f"is typed {shown}, its rule says {', '.join(map(str, types))}")


def _wrong(op: Op, message: str) -> IRError:
    return IRError(f"{op.kind} {message}", where=[str(op.loc)], code="SC104")

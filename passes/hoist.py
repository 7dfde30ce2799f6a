"""What a graph computes from inputs that stay as they are all along a stream: a graph of its own, run once.

A decoder's keys and values of what the encoder heard are the same for every token; its step must not compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..ir.graph import Builder, Graph, Op, Value
from ..ir.weights import Weight

ROLES = {("attention", 1): "keys", ("attention", 2): "values"}


def hoisted(graph: Graph, constants: Collection[str]) -> tuple[Graph, Graph]:
    """(early, rest): what depends on the inputs called `constants` alone, and the rest, which takes that as inputs.

    `early` gives by name, as `<module path>.keys`, `.values` or `.memory`, what `rest` takes under that name.
    """
    reads = _reads(graph)
    fixed = {op for op, names in reads.items() if names <= set(constants)}
    early = {op for op in fixed if reads[op]}
    wanted = _frontier(graph, early)
    first, rest = Graph("early", graph.weights), Graph(graph.name, graph.weights)
    inside: dict[Value, Value] = {}
    for v in graph.inputs:
        if v.name in constants:
            inside[v] = first.input(v.name, v.type)
    copied(graph, first, inside, fixed.__contains__)
    for v, name in wanted.items():
        first.output(inside[v], name)
    first.sweep()
    outside: dict[Value, Value] = {v: rest.input(v.name, v.type) for v in graph.inputs if v.name not in constants}
    outside |= {v: rest.input(name, v.type) for v, name in wanted.items()}
    copied(graph, rest, outside, lambda op: op not in early)
    for v, name in zip(graph.outputs, graph.output_names):
        rest.output(outside[v], name)
    rest.sweep()
    return first, rest


def append(graph: Graph, tail: Graph) -> None:
    """Run `tail` behind `graph`: its inputs are the outputs of the same names, its outputs are added."""
    named = dict(zip(graph.output_names, graph.outputs))
    known = {v: named[v.name] for v in tail.inputs}
    copied(tail, graph, known, lambda op: True)
    for v, name in zip(tail.outputs, tail.output_names):
        graph.output(known[v], name)


def copied(source: Graph, into: Graph, known: dict[Value, Value], chosen: Callable[[Op], bool]) -> None:
    """Put the ops of `source` that are `chosen` at the end of `into`; `known` maps values, and is added to."""
    b = Builder(into)
    for op in source.ops:
        if not chosen(op):
            continue
        b.loc = op.loc
        made = b.emit(op.kind, [_there(v, into, known) for v in op.operands], op.attrs)
        known.update(zip(op.results, (made,) if isinstance(made, Value) else made))


def _there(v: Value | None, into: Graph, known: dict[Value, Value]) -> Value | None:
    if v is None or v in known:
        return None if v is None else known[v]
    if v.kind == "const":
        known[v] = into.const(v.payload.item(), v.type.dtype)
    elif v.kind == "weight":
        known[v] = into.weight_value(_adopted(v.payload, into))
    return known[v]


def _adopted(weight: Weight, into: Graph) -> Weight:
    """A weight of another module's, under a name that is free here; never copied."""
    weights = into.weights
    if weight.name in weights:
        there = weights[weight.name]
        if there is weight or there.digest == weight.digest:
            return there
        weight = Weight(weights.fresh(weight.name), weight.type, lambda of=weight: of.array, weight.digest, [weight])
    return weights._put(weight)


def _reads(graph: Graph) -> dict[Op, frozenset[str]]:
    """The inputs that every op depends on."""
    values: dict[Value, frozenset[str]] = {v: frozenset((v.name,)) for v in graph.inputs}
    found = {}
    for op in graph.ops:
        found[op] = frozenset().union(*(values.get(v, frozenset()) for v in op.operands if v is not None))
        values |= dict.fromkeys(op.results, found[op])
    return found


def _frontier(graph: Graph, early: set[Op]) -> dict[Value, str]:
    """Values at which the early part ends, with their names."""
    names: dict[Value, str] = {}
    taken: set[str] = set()
    for op in graph.ops:
        if op in early:
            continue
        for i, v in enumerate(op.operands):
            if v is None or v.op not in early or v in names:
                continue
            role = ROLES.get((op.kind, i), "memory")
            name, number = f"{op.loc.path}.{role}", 1
            while name in taken:
                number += 1
                name = f"{op.loc.path}.{role}{number}"
            taken.add(name)
            names[v] = name
    return names

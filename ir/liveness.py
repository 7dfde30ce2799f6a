"""How much memory the values of a graph need at once: every value lives from its op to its last reader."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .expr import Expr, Size, Sym, floordiv, maximum, same
from .graph import Graph, Op
from .registry import definition
from .types import DTYPES, Tensor

VIEWS = ("reshape", "retime", "read")  # their result is their first operand under another type
KEPT = {"write": 1}  # ops whose new state is an operand as it stands, not a new array


def tensor_bytes(t: Tensor) -> Size:
    """The bytes of a dense tensor; two int4 values share one."""
    count = math.prod(t.sizes, start=1)
    return floordiv(count + 1, 2) if t.dtype == "i4" else count * DTYPES[t.dtype].itemsize


def peak_bytes(graph: Graph, in_place: bool = True) -> Size:
    """The most bytes of inputs, results, outputs and new states that live at once, in the order of the ops.

    Inputs belong to the caller and live through the whole call; so do outputs and new states once they are made. Views
    (reshape) need nothing. With `in_place` an op that treats every element alone writes over an operand of its size
    that nobody reads after it. Weights, the states as the call found them, and what a kernel needs for itself are not
    counted. No allocator can do with less in this order.
    """
    return dominant(level for _, level in levels(graph, in_place))


def levels(graph: Graph, in_place: bool = True) -> list[tuple[Op | None, Size]]:
    """The bytes that live while each op runs; the first entry, without an op, are the inputs alone."""
    owner = _owners(graph)
    holder = lambda v: None if v is None else owner.get(id(v))
    last = {holder(v): op for op in graph.ops for v in op.operands}
    written = [op.operands[KEPT[op.kind]] for op in graph.ops if op.kind in KEPT]
    held = {holder(v) for v in (*graph.inputs, *graph.outputs, *written)} | {None}
    size: dict[int | None, Size] = {id(v): tensor_bytes(v.type) for v in graph.inputs}
    live: Size = sum(size.values())
    found: list[tuple[Op | None, Size]] = [(None, live)]
    for op in graph.ops:
        made = {id(r): tensor_bytes(r.type) for r in op.results if holder(r) == id(r)}
        read = dict.fromkeys(holder(v) for v in op.operands)
        dying = [b for b in read if last[b] is op and b not in held]
        fresh = sum(made.values(), start=_new_state(op))
        reused = _overwritten(op, list(made.values()), [size[b] for b in dying]) if in_place else 0
        found.append((op, live + fresh - reused))
        size |= made
        unread = [b for b in made if b not in last and b not in held]
        live = live + fresh - sum(size[b] for b in (*dying, *unread))
    return found


def _owners(graph: Graph) -> dict[int, int]:
    """By value: the value whose memory holds it. Weights, literals, states and views of them have none here."""
    owner = {id(v): id(v) for v in graph.inputs}
    for op in graph.ops:
        for r in op.results:
            if op.kind not in VIEWS:
                owner[id(r)] = id(r)
            elif id(op.operands[0]) in owner:
                owner[id(r)] = owner[id(op.operands[0])]
    return owner


def _new_state(op: Op) -> Size:
    """The bytes of the new state that an op makes of its own, beside its results."""
    if op.kind in KEPT or definition(op.kind).next_state is None:
        return 0
    return sum(tensor_bytes(v.type) for v in op.operands if v is not None and v.kind == "state")


def _overwritten(op: Op, made: list[Size], dying: list[Size]) -> Size:
    """The bytes of the operand that an op may write its only result over; 0 where it may not."""
    if definition(op.kind).family != "pointwise" or len(made) != 1:
        return 0
    return next((s for s in dying if same(s, made[0])), 0)


def dominant(sizes: Iterable[Size]) -> Size:
    """The largest of several sizes, as one expression; those that another is never below are left out."""
    kept: list[Size] = []
    for s in dict.fromkeys(sizes):
        if not any(_never_below(k, s) for k in kept):
            kept = [k for k in kept if not _never_below(s, k)] + [s]
    return maximum(*kept) if kept else 0


def _never_below(a: Size, b: Size) -> bool:
    """Whether a >= b can be read off the terms of a - b, where symbols are 1 or more and no quotient is negative."""
    rest = a - b
    if not isinstance(rest, Expr):
        return rest >= 0
    if any(c < 0 for monomial, c in rest.terms if monomial):
        return False
    sure = [c for monomial, c in rest.terms if all(isinstance(atom, Sym) for atom in monomial)]
    return sum(sure) >= 0

"""How long inputs may be before a lookup runs off the end of its table (learned positions, tables of distances)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...ir.expr import Expr, symbols
from ...ir.graph import Graph, Module, Op, Value
from ...ir.registry import definition

MOST_ELEMENTS = 1 << 20  # of an index that is tried; one that still fits is taken to fit always


def bound_lookups(module: Module) -> None:
    """Lower the largest lengths in `module.meta["limits"]` to those at which every lookup by position fits its table.

    torch.export bounds lengths by the crops of a table, and not by what is looked up in one.
    """
    limits = module.meta["limits"]
    for graph in module.graphs.values():
        tried = set()
        for op in graph.ops:
            if op.kind not in ("gather", "gather_elements"):
                continue
            rows, index = op.operands[0].type.sizes[op.attrs["axis"]], op.operands[1]
            ops = _made_of_lengths(index)
            names = {name for o in ops or () for name in _lengths(o)}
            if not isinstance(rows, int) or len(names) != 1 or names - set(limits) or (id(index), rows) in tried:
                continue
            tried.add((id(index), rows))
            (name,) = names
            limits[name][1] = _longest(graph, ops, index, name, rows, *limits[name])


def _made_of_lengths(v: Value) -> list[Op] | None:
    """The ops that `v` is computed by, in order, if they read nothing but lengths and constants."""
    found: dict[Op, None] = {}
    todo = [v]
    while todo:
        w = todo.pop()
        if w.op is None:
            if not w.known:
                return None
        elif w.op not in found:
            found[w.op] = None
            todo += [o for o in w.op.operands if o is not None]
    return [op for op in v.op.graph.ops if op in found] if v.op is not None else None


def _lengths(op: Op) -> Iterator[str]:
    todo = list(op.attrs.values())
    while todo:
        value = todo.pop()
        if isinstance(value, tuple):
            todo += value
        elif isinstance(value, Expr):
            yield from symbols(value)


def _longest(graph: Graph, ops: list[Op], index: Value, name: str, rows: int, least: int, most: int | None):
    """The largest length up to `most` at which `index` stays within `rows`; `most` where it always does."""

    def tried(length: int) -> np.ndarray:
        known: dict[int, np.ndarray] = {}
        read = lambda weight: graph.weights[weight].array
        for op in ops:
            operands = [None if v is None else known[id(v)] if v.op else v.array for v in op.operands]
            for r, array in zip(op.results, definition(op.kind).run(op, operands, {name: length}, read)):
                known[id(r)] = np.asarray(array)
        return known[id(index)]

    def fits(array: np.ndarray) -> bool:
        return array.size == 0 or (array.max() < rows and array.min() >= -rows)

    length = max(least or 1, 1)
    if not fits(tried(length)):
        return most
    while True:
        good, length = length, 2 * length if most is None else min(2 * length, most)
        if good == length:
            return most
        array = tried(length)
        if not fits(array):
            break
        if array.size > MOST_ELEMENTS:
            return most
    while length - good > 1:
        middle = (good + length) // 2
        good, length = (middle, length) if fits(tried(middle)) else (good, middle)
    return good

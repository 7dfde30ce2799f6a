"""The meaning of a graph: every op evaluated in order by its numpy definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .errors import IRError, UsageError
from .expr import Expr, evaluate, symbols
from .graph import Graph, Op, Value
from .registry import definition
from .types import DTYPES, Tensor, dtype_of
from .weights import Weight


def bind_sizes(graph: Graph, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Sizes of the symbols in the input types, from the arrays fed; checks names, ranks, element types and sizes."""
    sizes: dict[str, int] = {}
    missing = [v.name for v in graph.inputs if v.name not in feeds]
    if missing or len(feeds) != len(graph.inputs):
        wanted = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
        raise UsageError("SC110", f"inputs given: {', '.join(feeds) or 'none'}; the graph takes {wanted}")
    for v in graph.inputs:
        array = feeds[v.name]
        if array.ndim != v.type.rank or array.dtype != DTYPES[v.type.dtype]:
            got = f"{dtype_of(array)}{list(array.shape)}"
            raise UsageError("SC111", f"input {v.name} is {got}, the graph takes {v.type}")
        for d, n in zip(v.type.shape, array.shape):
            _bind(d.size, n, sizes, v)
    for v in graph.inputs:
        for d, n in zip(v.type.shape, feeds[v.name].shape):
            if not isinstance(d.size, int) and symbols(d.size) <= set(sizes) and evaluate(d.size, sizes) != n:
                raise UsageError("SC112", f"input {v.name}: {d.size} is {evaluate(d.size, sizes)} here, not {n}")
    return sizes


def _bind(size, n: int, sizes: dict[str, int], v: Value) -> None:
    if isinstance(size, int):
        if size != n:
            raise UsageError("SC112", f"input {v.name} is {v.type}: size {n} does not fit")
    elif str(size).isidentifier():
        if sizes.setdefault(str(size), n) != n:
            raise UsageError("SC112", f"input {v.name}: {size} is {sizes[str(size)]} elsewhere, {n} here")
    elif isinstance(size, Expr) and len(symbols(size)) == 1:
        (name,) = symbols(size)
        if name not in sizes:  # an affine size such as 320*N: solve for its symbol
            for guess in range(n + 2):
                if evaluate(size, {name: guess}) == n:
                    sizes[name] = guess
                    return
            raise UsageError("SC112", f"input {v.name} is {v.type}: {n} is no value of {size}")


def initial_states(graph: Graph) -> dict[str, np.ndarray]:
    """The value of every state before the first call."""
    out = {}
    for name, v in graph.states.items():
        start = v.payload.initial
        shape = tuple(v.type.sizes)
        out[name] = start.array if isinstance(start, Weight) else np.full(shape, start, DTYPES[v.type.dtype])
    return out


def run(
    graph: Graph,
    feeds: Mapping[str, np.ndarray],
    states: dict[str, np.ndarray] | None = None,
    watch: Callable[[Op, tuple[np.ndarray, ...]], None] | None = None,
    instead: Callable[[Op, tuple[np.ndarray, ...]], tuple[np.ndarray, ...]] | None = None,
) -> tuple[np.ndarray, ...]:
    """The outputs of `graph` for named inputs. `states` is read and updated in place; `watch` sees every result.

    `instead` gives the results that later ops read in place of those of an op. Arrays must have exactly the types that
    the graph declares; results are checked against the types inferred.
    """
    sizes = bind_sizes(graph, feeds)
    values: dict[int, np.ndarray] = {id(v): feeds[v.name] for v in graph.inputs}
    current = initial_states(graph) if states is None else states
    values.update({id(v): current[name] for name, v in graph.states.items()})
    written: dict[str, np.ndarray] = {}
    last_use: dict[int, Op] = {id(v): op for op in graph.ops for v in op.operands if v is not None}
    returned = {id(v) for v in graph.outputs}

    def look(v: Value | None):
        if v is None:
            return None
        return v.array if v.kind in ("const", "weight") else values[id(v)]

    for op in graph.ops:
        arrays = [look(v) for v in op.operands]
        kept = definition(op.kind)
        results = kept.run(op, arrays, sizes, lambda name: graph.weights[name].array)
        if kept.next_state is not None:
            state = next(v for v in op.operands if v.kind == "state")
            written[state.name] = kept.next_state(*arrays, **op.attrs)
        if instead is not None:
            results = instead(op, results)
        for r, array in zip(op.results, results, strict=True):
            values[id(r)] = check_type(array, r.type, sizes, op)
        if watch is not None:
            watch(op, results)
        for v in op.operands:
            if v is not None and v.kind == "result" and last_use[id(v)] is op and id(v) not in returned:
                values.pop(id(v), None)
    if states is not None:
        states.update(written)
    return tuple(look(v) for v in graph.outputs)


def check_type(array: np.ndarray, type: Tensor, sizes: Mapping[str, int], op: Op) -> np.ndarray:
    """The array, if it is what its type says; symbolic sizes are evaluated."""
    array = np.asarray(array)
    want = tuple(evaluate(d.size, sizes) for d in type.shape)
    if array.shape != want or array.dtype != DTYPES[type.dtype]:
        raise IRError(
            f"{op.kind} computed {array.dtype}{list(array.shape)}, its type {type} says {list(want)}",
            where=[str(op.loc)],
            code="SC105",
        )
    return array

"""Along a graph, op by op: what the file computes beside what the op means on the file's own inputs to it.

Every value that the file holds is read from it. An op is evaluated by its numpy meaning on the values that the file had
for its operands, so that a difference is this op's own and none that came down to it: where one weight of a file was
changed, the op that reads it is the only one that is wrong. Beside that, the file's value is compared with the same
value of the float32 graph, which adds up all that was lost on the way (as does the per-layer report of TFLite's
quantization debugger, ai.google.dev/edge/litert).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.expr import evaluate
from ...ir.graph import Graph, Loc, Op, Value
from ...ir.interpreter import bind_sizes, initial_states
from ...ir.interpreter import run as interpret
from ...ir.registry import THEN, dequantized, quantized
from ...ir.types import DTYPES, LIMITS, Tensor
from ...lowering.inside import Inside, port_name
from ...lowering.target import Session
from ..numerics import Difference, difference
from .calls import Call
from .kept import Kept

AT_ONCE = 256_000_000  # bytes of values that one run of the file shows
# What rounding in one op may do, of the largest value: float32 sums of a few thousand products, float16's 11 bits, and
# a bias that a kernel on codes rounds to the step of its sums.
FLOAT32, FLOAT16, CODES = 3e-5, 1e-2, 1e-3
STEPS = 2.0  # on a grid: one code beside a tie, one more where a kernel rounds in fixed point
# Scales that are found while running are a kernel's own business: 8 bits are 50 dB, less what a few large values cost.
DYNAMIC = 30.0
BOTTOM = -1e4  # what stands for -inf in a mask is any large number


@dataclass
class Seen:
    """One op of the graph, or several that the file computes as one.

    `own` is the file's result against the op's meaning on the file's operands, `far` how many times what rounding
    explains that is, `total` the file's result against the float32 graph's (None: not there).
    """

    op: str
    loc: Loc
    own: Difference
    far: float
    total: Difference | None = None

    @property
    def parts(self) -> bool:
        """Whether the file computes something else here."""
        return not self.far <= 1.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "op": self.op,
            "module": self.loc.path,
            "class": self.loc.cls,
            "source": self.loc.source,
            "own": self.own.as_dict(),
            "parts": self.parts,
            "total": None if self.total is None else self.total.as_dict(),
        }


@dataclass
class Walk:
    """What was seen, in the order of the graph; `hidden` counts results that the file does not show."""

    seen: list[Seen] = field(default_factory=list)
    hidden: int = 0

    @property
    def first(self) -> Seen | None:
        """The first op at which the file computes something else."""
        return next((s for s in self.seen if s.parts), None)


def walk(graph: Graph, plain: Graph, inside: Inside, calls: Sequence[Call], folder: Path) -> Walk:
    """Look at every value of `graph` that the file shows, on the given calls; `plain` is the float32 graph."""
    there = inside.tensors
    shown = [v for op in graph.ops for v in op.results if inside.names.get(id(v)) in there]
    kept = Kept(folder)
    for block in _blocks(graph, shown, calls[0], len(calls)):
        session = inside.open(block, folder)
        for index, call in enumerate(calls):
            got = _replayed(session, call)
            for v in block:
                kept[index, id(v)] = got[port_name(inside.names[id(v)])]
        if hasattr(session, "close"):
            session.close()
    found: dict[int, list[Seen]] = {}
    for index, call in enumerate(calls):
        _own(graph, call, index, kept, found)
    totals = _totals(graph, plain, calls, kept)
    result = Walk(hidden=sum(len(op.results) for op in graph.ops) - len(shown))
    there = {id(v) for v in shown}
    for op in graph.ops:
        if seen := found.get(id(op)):
            worst = max(seen, key=lambda s: s.far)
            worst.total = totals.get(id(op))
            hidden = _hidden(op, there)
            if hidden:  # what the file computes in one piece is named after the op in it that has weights
                worst.op = ", ".join([*(h.kind for h in hidden), op.kind])
                worst.loc = next((h.loc for h in hidden if any(v and v.kind == "weight" for v in h.operands)), op.loc)
            result.seen.append(worst)
    return result


def _hidden(op: Op, there: set[int]) -> list[Op]:
    """The ops before `op` whose results the file does not show, back to those that it does, in order."""
    found, ahead = [], [op]
    while ahead:
        for v in ahead.pop().operands:
            if v is not None and v.op is not None and id(v) not in there and v.op not in found:
                found.append(v.op)
                ahead.append(v.op)
    return found[::-1]


def _blocks(graph: Graph, shown: Sequence[Value], call: Call, calls: int) -> Iterator[list[Value]]:
    sizes, block, held = bind_sizes(graph, call.feeds), [], 0
    for v in shown:
        own = np.dtype(DTYPES[v.type.dtype]).itemsize * int(np.prod([evaluate(s, sizes) for s in v.type.sizes]))
        if block and held + own > AT_ONCE:
            yield block
            block, held = [], 0
        block.append(v)
        held += own
    if block:
        yield block


def _replayed(session: Session, call: Call) -> dict[str, np.ndarray]:
    session.reset()
    for name, value in call.states.items():
        session.set_state(name, value)
    return session.run_named(call.feeds)


def _own(graph: Graph, call: Call, index: int, kept: Kept, found: dict[int, list[Seen]]) -> None:
    scales = lambda name: graph.weights[name].array

    def instead(op: Op, results: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        made = []
        for v, meant in zip(op.results, results):
            given = kept.get((index, id(v)))
            if given is None or given.size != np.asarray(meant).size:
                made.append(meant)
                continue
            file = as_graph(given, v.type, np.shape(meant))
            found.setdefault(id(op), []).append(_judged(op, v.type, file, np.asarray(meant), scales))
            made.append(file)
        return tuple(made)

    states = {n: as_graph(call.states[n], v.type, v.type.sizes) for n, v in graph.states.items()}
    interpret(graph, call.feeds, states, instead=instead)


def as_graph(array: np.ndarray, type: Tensor, shape: Sequence[int]) -> np.ndarray:
    """A file's array as a graph holds it: of its element type, on its grid, of its rank."""
    array = np.asarray(array).reshape(shape)
    if type.quant is not None and array.dtype.kind == "f":  # codes that a file holds as the real numbers they stand for
        return quantized(array, type.dtype, type.quant.scale, type.quant.zero_point)
    return array.astype(DTYPES[type.dtype], copy=False)


def _judged(op: Op, type: Tensor, file: np.ndarray, meant: np.ndarray, scales) -> Seen:
    real = lambda a: dequantized(a, type, scales) if type.quant is not None else a
    own = difference([_bounded(real(file))], [_bounded(real(meant))])
    if op.attrs.get("dynamic"):
        far = 0.0 if own.snr >= DYNAMIC else float(np.inf) if not np.isfinite(own.error) else DYNAMIC / max(own.snr, 1)
    elif type.quant is not None:
        far = float(np.abs(file.astype(np.int32) - meant).max(initial=0)) / STEPS
    elif type.is_float:
        coded = any(v is not None and (v.type.quant or (v.op and v.op.kind == "dequantize")) for v in op.operands)
        far = own.error / (FLOAT16 if type.dtype == "f16" else CODES if coded else FLOAT32)
    else:
        far = float(np.inf) if (file != meant).any() else 0.0
    return Seen(op.kind, op.loc, own, far)


def _bounded(array: np.ndarray) -> np.ndarray:
    return np.maximum(array, BOTTOM) if array.dtype.kind == "f" else array


def _totals(graph: Graph, plain: Graph, calls: Sequence[Call], kept: Kept) -> dict[int, Difference]:
    """The file's values against those of the float32 graph that does the same thing at the same place."""
    twins = {key: op for key, op in _keyed(plain)}
    pairs = {id(twins[key]): op for key, op in _keyed(graph) if key in twins and len(op.results) == 1}
    scales = lambda name: graph.weights[name].array
    totals: dict[int, Difference] = {}
    states = initial_states(plain)
    for index, call in enumerate(calls):
        feeds = {v.name: _plain_feed(call.feeds[v.name], graph, v) for v in plain.inputs}

        def watch(op: Op, results, index=index) -> None:
            mine = pairs.get(id(op))
            file = None if mine is None else kept.get((index, id(mine.result)))
            if file is None or not op.result.type.is_float:
                return
            type, meant = mine.result.type, np.asarray(results[0])
            for kind in _absorbed(op, mine):
                meant = THEN[kind](meant)
            if file.size != meant.size or not (type.is_float or type.quant is not None):
                return
            file = as_graph(file, type, meant.shape)
            real = dequantized(file, type, scales) if type.quant is not None else file
            one = difference([_bounded(real)], [_bounded(meant)])
            old = totals.get(id(mine), one)
            totals[id(mine)] = Difference(max(old.error, one.error), min(old.snr, one.snr))

        interpret(plain, feeds, states, watch=watch)
    return totals


def _absorbed(op: Op, mine: Op) -> Iterator[str]:
    """Activations behind `op` that `mine` has in it: as `then`, or in a grid that begins at 0."""
    readers = {r.kind for r in op.result.users}
    quant = mine.result.type.quant
    starts = quant is not None and quant.zero_point == LIMITS[mine.result.type.dtype][0]
    for kind in THEN:
        if not op.attrs.get("then") and (mine.attrs.get("then") == kind or (starts and readers == {kind})):
            yield kind


def _keyed(graph: Graph) -> Iterator[tuple[tuple[str, str, int], Op]]:
    """Ops by module path, kind, and number among those of that kind there."""
    counts: dict[tuple[str, str], int] = {}
    for op in graph.ops:
        key = (op.loc.path, op.kind)
        counts[key] = counts.get(key, 0) + 1
        yield (*key, counts[key]), op


def _plain_feed(array: np.ndarray, graph: Graph, v: Value) -> np.ndarray:
    mine = next((u for u in graph.inputs if u.name == v.name), v)
    if mine.type.quant is not None and v.type.quant is None:
        array = dequantized(array, mine.type, lambda name: graph.weights[name].array)
    return array.astype(DTYPES[v.type.dtype], copy=False)

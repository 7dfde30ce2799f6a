"""Where latency and state come from, by module path: read off the types of a step graph."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from ..ir.graph import Graph, Op, Value
from ..ir.registry import definition
from ..ir.types import DTYPES

_DELAY = re.compile(r"\.delay(\.\d+)?$")  # states that only hold a stream back until another one catches up
_CONVERTS = ("quantize", "dequantize", "cast")


@dataclass(frozen=True)
class Late:
    """One output: its delay in own frames, in ticks of the clock, and the modules that make it, largest part first."""

    output: str
    delay: int
    rate: Fraction
    parts: dict[str, Fraction]  # module path: ticks

    @property
    def ticks(self) -> Fraction:
        """The delay in ticks of the clock."""
        return self.delay / self.rate


@dataclass(frozen=True)
class Held:
    """The states of one module: how many, and their bytes."""

    count: int
    bytes: int


def latencies(graph: Graph) -> list[Late]:
    """The latency of every output with time; parts follow the path that is latest, and add up to the whole."""
    found = []
    for v, name in zip(graph.outputs, graph.output_names):
        late = ticks_late(v)
        if late is not None:
            time = _time(v)
            parts: dict[str, Fraction] = {}
            for path, ticks in _path(v):
                parts[path] = parts.get(path, Fraction(0)) + ticks
            ordered = sorted(((p, t) for p, t in parts.items() if t), key=lambda item: -item[1])
            found.append(Late(name, time.delay, time.rate, dict(ordered)))
    return found


def states_by_module(graph: Graph) -> dict[str, Held]:
    """The states of a step graph by the module that reads them, most bytes first."""
    found: dict[str, Held] = {}
    for name, v in graph.states.items():
        reader = next(iter(v.users), None)
        path = reader.loc.path if reader is not None else name.rpartition(".")[0]
        old = found.get(path, Held(0, 0))
        size = math.prod(v.type.sizes) * DTYPES[v.type.dtype].itemsize
        found[path] = Held(old.count + 1, old.bytes + size)
    return dict(sorted(found.items(), key=lambda item: -item[1].bytes))


def kinds_by_module(graph: Graph) -> dict[str, set[str]]:
    """Which ops each module path holds."""
    found: dict[str, set[str]] = {}
    for op in graph.ops:
        found.setdefault(op.loc.path, set()).add(op.kind)
    return found


def ticks_late(v: Value) -> Fraction | None:
    """How late a value's frames are, in ticks; None where it has no time."""
    time = _time(v)
    return None if time is None else time.delay / time.rate


def _time(v: Value):
    return next((d.time for d in v.type.shape if d.time is not None), None)


def _path(v: Value) -> Iterator[tuple[str, Fraction]]:
    """What each op on the latest way from an input to `v` adds, from the end to the start."""
    while v.op is not None:
        sources = _timed_sources(v.op)
        if not sources:
            yield v.op.loc.path, ticks_late(v)
            return
        before = max(sources, key=lambda s: (ticks_late(s), not _held_back(s)))
        yield v.op.loc.path, ticks_late(v) - ticks_late(before)
        v = before
    if ticks_late(v):
        yield "", ticks_late(v)


def _timed_sources(op: Op) -> list[Value]:
    """The nearest values with time that an op is computed from."""
    found, seen, todo = [], set(), [v for v in op.operands if v is not None]
    while todo:
        v = todo.pop(0)
        if id(v) in seen or v.kind not in ("input", "result"):
            continue
        seen.add(id(v))
        if _time(v) is not None:
            found.append(v)
        elif v.op is not None:
            todo += [o for o in v.op.operands if o is not None]
    return found


def _held_back(v: Value) -> bool:
    """Whether a value is another one, only later."""
    while v.op is not None and v.op.kind != "history" and (_moves(v.op) or v.op.kind in _CONVERTS):
        v = v.op.operands[0]
    return v.op is not None and v.op.kind == "history" and bool(_DELAY.search(v.op.operands[1].name))


def _moves(op: Op) -> bool:
    """Whether an op only moves the elements of one operand."""
    return definition(op.kind).carries and sum(v is not None and v.kind == "result" for v in op.operands) == 1

"""Modules, graphs, ops and values: single assignment, uses kept, built only through a builder that infers types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .errors import IRError, SpeechcError
from .expr import Size
from .types import DTYPES, Tensor
from .weights import Weight, Weights


@dataclass(frozen=True, slots=True)
class Loc:
    """Where an op comes from in the user's model: module path, class, source line, and the passes it went through."""

    path: str
    cls: str = ""
    source: str = ""
    passes: tuple[str, ...] = ()

    def through(self, pass_name: str) -> Loc:
        """This place, with one more pass on the way (a pass is named once in a row)."""
        if not pass_name or self.passes[-1:] == (pass_name,):
            return self
        return replace(self, passes=self.passes + (pass_name,))

    def __str__(self) -> str:
        inside = ", ".join(x for x in (self.cls, self.source) if x)
        return (self.path or "(model)") + (f" ({inside})" if inside else "")


class Value:
    """Something an op can read. `kind` is input, weight, const, state or result."""

    __slots__ = ("kind", "type", "name", "op", "index", "users", "payload")

    def __init__(self, kind: str, type: Tensor, name: str = "", op: Op | None = None, index: int = 0, payload=None):
        self.kind, self.type, self.name, self.op, self.index = kind, type, name, op, index
        self.users: dict[Op, None] = {}  # ops that read it, in order of first use
        self.payload = payload  # Weight, numpy scalar or State

    @property
    def known(self) -> bool:
        """Whether the values are available at compile time."""
        return self.kind == "const" or (self.kind == "weight" and self.payload.known)

    @property
    def array(self) -> np.ndarray:
        """The values of a weight or literal."""
        if self.kind == "const":
            return self.payload
        if self.kind == "weight":
            return self.payload.array
        raise IRError(f"{self} is computed at run time")

    def __repr__(self) -> str:
        return {"weight": "$", "state": "@"}.get(self.kind, "%") + (self.name or "?") + f" : {self.type}"


@dataclass
class State:
    """A tensor that lives from one call to the next, `initial` everywhere at the start (or a weight's values)."""

    name: str
    type: Tensor
    initial: float | int | Weight = 0


class Op:
    """One operation: `kind` names its definition, `operands` may hold None where an operand is left out."""

    __slots__ = ("kind", "operands", "attrs", "results", "loc", "graph", "prev", "next")

    def __init__(self, kind: str, operands: tuple[Value | None, ...], attrs: dict[str, Any], loc: Loc):
        self.kind, self.operands, self.attrs, self.loc = kind, operands, attrs, loc
        self.results: tuple[Value, ...] = ()
        self.graph: Graph | None = None
        self.prev: Op | None = None
        self.next: Op | None = None

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    def set_operand(self, index: int, value: Value | None) -> None:
        """Read `value` as operand `index` from now on; uses follow."""
        old = self.operands[index]
        self.operands = self.operands[:index] + (value,) + self.operands[index + 1 :]
        if old is not None and all(o is not old for o in self.operands):
            old.users.pop(self, None)
        if value is not None:
            value.users[self] = None

    def __repr__(self) -> str:
        from .text import print_op

        return print_op(self)


class Graph:
    """A straight list of ops between typed inputs and named outputs, with the states that it reads and writes."""

    def __init__(self, name: str = "main", weights: Weights | None = None):
        self.name = name
        self.weights = weights if weights is not None else Weights()
        self.inputs: list[Value] = []
        self.states: dict[str, Value] = {}
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self._weight_values: dict[str, Value] = {}
        self._first: Op | None = None
        self._last: Op | None = None

    # -- reading ---------------------------------------------------------------------------------------------------
    @property
    def ops(self) -> Iterator[Op]:
        """The ops in order; the current one may be erased while walking."""
        op = self._first
        while op is not None:
            following = op.next
            yield op
            op = following if op.graph is None else op.next

    def __len__(self) -> int:
        return sum(1 for _ in self.ops)

    def used_weights(self) -> dict[str, Value]:
        """Weights that an op or an output reads, by name, in order of first use (scales of types included)."""
        used: dict[str, Value] = {}

        def see(v: Value):
            if v.kind == "weight" and v.name not in used:
                used[v.name] = v
            if v.type.quant and isinstance(v.type.quant.scale, str) and v.type.quant.scale not in used:
                used[v.type.quant.scale] = self.weight(v.type.quant.scale)

        for op in self.ops:
            for v in (*op.operands, *op.results):
                if v is not None:
                    see(v)
        for v in self.outputs:
            see(v)
        for v in self.states.values():
            if isinstance(v.payload.initial, Weight):
                used.setdefault(v.payload.initial.name, self.weight(v.payload.initial.name))
        return used

    def __str__(self) -> str:
        from .text import print_graph

        return print_graph(self)

    __repr__ = __str__

    def __eq__(self, other) -> bool:
        return isinstance(other, Graph) and (self is other or str(self) == str(other))

    __hash__ = object.__hash__

    # -- building --------------------------------------------------------------------------------------------------
    def input(self, name: str, type: Tensor) -> Value:
        """Declare an input."""
        if any(v.name == name for v in self.inputs):
            raise IRError(f"two inputs are called {name}")
        self.inputs.append(Value("input", type, name))
        return self.inputs[-1]

    def state(self, name: str, type: Tensor, initial: float | int | Weight = 0) -> Value:
        """Declare a state."""
        if name in self.states:
            raise IRError(f"two states are called @{name}")
        self.states[name] = Value("state", type, name, payload=State(name, type, initial))
        return self.states[name]

    def weight(self, name: str, array: np.ndarray | None = None, dtype: str | None = None, quant=None) -> Value:
        """The weight called `name`, or a new one holding `array` (never copied) under that name or a fresh one."""
        weight = self.weights[name] if array is None else self.weights.add(name, array, dtype, quant)
        return self.weight_value(weight)

    def weight_value(self, weight: Weight) -> Value:
        """The value that stands for a weight in this graph."""
        if weight.name not in self._weight_values:
            self._weight_values[weight.name] = Value("weight", weight.type, weight.name, payload=weight)
        return self._weight_values[weight.name]

    def const(self, number: float | int | bool, dtype: str) -> Value:
        """A literal scalar."""
        return Value("const", Tensor(dtype), payload=np.array(number, DTYPES[dtype]))

    def output(self, value: Value, name: str) -> None:
        """Return `value` under `name`."""
        if name in self.output_names:
            raise IRError(f"two outputs are called {name}")
        self.outputs.append(value)
        self.output_names.append(name)

    def insert(self, op: Op, before: Op | None) -> None:
        """Link `op` in front of `before`, or at the end."""
        op.graph, op.next = self, before
        op.prev = before.prev if before is not None else self._last
        if op.prev is not None:
            op.prev.next = op
        else:
            self._first = op
        if before is not None:
            before.prev = op
        else:
            self._last = op
        for v in op.operands:
            if v is not None:
                v.users[op] = None

    def erase(self, op: Op) -> None:
        """Remove an op that nobody reads."""
        for r in op.results:
            if r.users or any(o is r for o in self.outputs):
                raise IRError(f"{op.kind} is still used", where=[str(op.loc)])
        for v in op.operands:
            if v is not None:
                v.users.pop(op, None)
        if op.prev is not None:
            op.prev.next = op.next
        else:
            self._first = op.next
        if op.next is not None:
            op.next.prev = op.prev
        else:
            self._last = op.prev
        op.graph = None

    def replace(self, old: Value, new: Value) -> None:
        """Make every reader of `old` read `new`; their types must agree."""
        if old is new:
            return
        if old.type != new.type:
            raise IRError(f"a value of type {old.type} cannot be replaced by one of type {new.type}")
        for op in list(old.users):
            for i, v in enumerate(op.operands):
                if v is old:
                    op.set_operand(i, new)
        self.outputs = [new if v is old else v for v in self.outputs]

    def sweep(self) -> int:
        """Erase every op without readers or effects; return how many."""
        from .registry import definition

        kept = {id(v) for v in self.outputs}
        erased, op = 0, self._last
        while op is not None:
            previous = op.prev
            if not definition(op.kind).effect and not any(r.users or id(r) in kept for r in op.results):
                self.erase(op)
                erased += 1
            op = previous
        return erased


class Builder:
    """Adds ops at one place of a graph; `b.conv(x, w, None, stride=(2,))` infers the type at once.

    Every op of the registry is a method. A single result is returned as a value, several as a tuple.
    """

    def __init__(self, graph: Graph, loc: Loc | None = None, before: Op | None = None):
        self.graph, self.loc, self.before = graph, loc or Loc(""), before

    @contextmanager
    def at(self, loc: Loc):
        """Give the ops built inside the place `loc`."""
        self.loc, old = loc, self.loc
        try:
            yield self
        finally:
            self.loc = old

    def __getattr__(self, kind: str):
        from .registry import definition

        definition(kind)
        return lambda *operands, **attrs: self.emit(kind, operands, attrs)

    def emit(self, kind: str, operands: Iterable[Value | None], attrs: dict[str, Any] | None = None):
        """Build one op by name, after checking its operands and attributes and inferring its results' types."""
        from .registry import definition

        op = Op(kind, tuple(operands), dict(attrs or {}), self.loc)
        try:
            types = definition(kind).infer(op)
        except SpeechcError as error:
            if not error.where:
                error.where.append(str(self.loc))
            raise
        op.results = tuple(Value("result", t, "", op, i) for i, t in enumerate(types))
        self.graph.insert(op, self.before)
        return op.results[0] if len(op.results) == 1 else op.results

    def const(self, number: float | int | bool, dtype: str) -> Value:
        """A literal scalar."""
        return self.graph.const(number, dtype)

    def weight(self, name: str, array: np.ndarray, dtype: str | None = None, quant=None) -> Value:
        """A new weight of the graph that shares `array`."""
        return self.graph.weight(name, array, dtype, quant)

    def derived(self, name: str, recipe: str, type: Tensor, compute: Callable, *sources: Value) -> Value:
        """A weight of `type` computed from known values when first needed; `recipe` says how, for its identity."""
        return self.graph.weight_value(
            self.graph.weights.derive(name, recipe, [v.payload for v in sources], type, compute)
        )

    def extent(self, size: Size) -> Value:
        """A size as an i64 scalar that ops can compute with."""
        return self.const(size, "i64") if isinstance(size, int) else self.emit("size", (), {"of": size})


@dataclass
class Module:
    """What is compiled: named graphs over shared weights, and facts about the model (`meta`)."""

    graphs: dict[str, Graph] = field(default_factory=dict)
    weights: Weights = field(default_factory=Weights)
    meta: dict[str, Any] = field(default_factory=dict)

    def graph(self, name: str) -> Graph:
        """A new, empty graph of this module."""
        self.graphs[name] = Graph(name, self.weights)
        return self.graphs[name]

    @property
    def main(self) -> Graph:
        """The only graph."""
        (graph,) = self.graphs.values()
        return graph

    def __str__(self) -> str:
        from .text import print_module

        return print_module(self)

    __repr__ = __str__

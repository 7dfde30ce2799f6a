"""From a legal graph to a TFLite file: inputs, weights, ops in order, states and outputs, signature and manifest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...ir.errors import UnsupportedError
from ...ir.expr import Expr, Size, evaluate, symbols
from ...ir.graph import Graph, Op, Value
from ...ir.registry import definition
from ...ir.types import Quant
from .body import Body, T
from .file import File
from .ops import ACTIVATES, INTEGER, LOWERINGS

STORED = {"i64": "i32"}  # computed in 32 bits: indices and lengths


class Emitter(Body):
    """Writes one graph as the main subgraph of a file."""

    def __init__(self, file: File, graph: Graph, key: str, options: Mapping[str, object], least: Mapping[str, int]):
        super().__init__(file, key, typical_sizes(graph, least))
        self.ir, self.key, self.options = graph, key, options
        self.scales = lambda name: graph.weights[name].array
        self.values: dict[int, T] = {}
        self.written: dict[str, T] = {}  # by state: what it becomes
        self.ports: tuple[dict[str, T], dict[str, T]] = ({}, {})
        self.resets = False  # whether the file keeps state that a caller must reset
        self._reals: dict[int, T] = {}
        self.shared: dict[tuple, object] = {}  # what several ops can use, such as a mask in additive form
        self.fused: dict[int, Op] = {}  # by result: the op behind it that its kernel does as well

    def emit_graph(self) -> None:
        """Write everything; afterwards `ports` holds the inputs and outputs by name."""
        inputs, outputs = self.ports
        for v in self.ir.inputs:
            inputs[v.name] = self._input(v, v.name)
        for name, v in self.ir.states.items():
            inputs[f"state.{name}"] = self._input(v, f"state.{name}")
        for op in self.ir.ops:
            self._op(op)
        taken = {t.index for t in inputs.values()}
        for v, name in zip(self.ir.outputs, self.ir.output_names):
            outputs[name] = self._output(v, name, taken)
        for name, v in self.ir.states.items():
            outputs[f"state.{name}.out"] = self._output(v, f"state.{name}.out", taken, self.written.get(name))
        self.declare(list(inputs.values()), list(outputs.values()))
        names = [{n: self.renumbered[t.index] for n, t in p.items()} for p in self.ports]
        self.file.signature(self.key, self.graph, *names)

    def _input(self, v: Value, name: str) -> T:
        t = self.tensor(name, v.type.dtype, v.type.sizes, v.type.quant)
        for axis, s in enumerate(t.sizes):
            if isinstance(s, Expr):
                self.dims.setdefault(s, (t, axis))
        self.values[id(v)] = self.cast(t, STORED.get(t.dtype, t.dtype))
        return t

    def _output(self, v: Value, name: str, taken: set[int], t: T | None = None) -> T:
        """The tensor of an output (`t`, or what `v` is), copied where TFLite wants one of its own."""
        t = t or self.value(v)
        if v.type.dtype in STORED:
            t = self.op("CAST", [t], v.type.dtype, t.sizes)
        elif t.index in taken or t.array is not None:
            t = self.copy(t)
        taken.add(t.index)
        self.file.subgraphs[self.graph].tensors[t.index].name = self.unique(name)
        return t

    # -- values ----------------------------------------------------------------------------------------------------
    def value(self, v: Value | None) -> T | None:
        """The tensor of an IR value."""
        if v is None:
            return None
        if id(v) not in self.values:
            if v.kind == "weight":
                self.values[id(v)] = self.weight(v)
            elif v.kind == "const":
                return self.const(self._narrow(v.array, v.type.dtype, "a literal"))
            else:
                raise KeyError(f"{v} has not been computed")
        return self.values[id(v)]

    def weight(self, v: Value) -> T:
        """A weight as a constant tensor."""
        return self.const(self._narrow(v.array, v.type.dtype, f"${v.name}"), v.name, v.type.quant)

    def _narrow(self, array: np.ndarray, dtype: str, what: str) -> np.ndarray:
        if dtype not in STORED:
            return array
        limits = np.iinfo(np.int32)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise UnsupportedError("SC312", f"{what} does not fit 32 bits: integers are int32 inside a TFLite file",
                                   [self.place])  # fmt: skip
        return array.astype(np.int32)

    def derived(self, t: T, how: str, array: np.ndarray, quant=None) -> T:
        """A constant made from the constant `t` (rearranged for a kernel), named after it."""
        name = self.file.subgraphs[self.graph].tensors[t.index].name
        return self.const(array, f"{name}/{how}", quant)

    # -- ops -------------------------------------------------------------------------------------------------------
    def _op(self, op: Op) -> None:
        if any(id(r) in self.values for r in op.results):
            return
        self.place = op.loc.path or op.kind
        operands = [self.value(v) for v in op.operands]
        whole = op.kind in INTEGER and (definition(op.kind).carries or self._integer(op, operands))
        if not whole:
            operands = [self.real(t) for t in operands]
        results = LOWERINGS[op.kind](self, op, *operands)
        results = list(results) if isinstance(results, tuple) else [results]
        if op.attrs.get("then") and op.kind not in ACTIVATES:
            results[0] = self.unary("RELU", results[0], quant=results[0].quant)
        quant = self.out_quant(op)
        if quant is not None and results[0].quant is None:
            results[0] = self.op("QUANTIZE", [results[0]], op.results[0].type.dtype, results[0].sizes, quant)
        for r, t in zip(op.results, results, strict=True):
            self.values[id(r)] = t
            if id(r) in self.fused:
                self.values[id(self.fused[id(r)].result)] = t

    def _integer(self, op: Op, operands: list[T | None]) -> bool:
        """Whether a kernel can take the operands of an arithmetic op as they are stored."""
        if op.attrs.get("dynamic"):
            return operands[0].quant is None
        wide = [t for t in operands if t is not None and t.quant is None and not (t.array is not None and t.rank <= 1)]
        return op.attrs.get("out") is not None and not wide and any(t is not None and t.quant for t in operands)

    def real(self, t: T | None) -> T | None:
        """The real values of a quantized tensor."""
        if t is None or t.quant is None:
            return t
        if t.index not in self._reals:
            self._reals[t.index] = self.widen(t)
        return self._reals[t.index]

    def real_array(self, t: T) -> np.ndarray:
        """The real values of a constant."""
        if t.quant is None:
            return t.array.astype(np.float32)
        scales, zeros, axis = self._quant(t.quant)
        along = [-1 if i == axis and len(scales) > 1 else 1 for i in range(t.rank)]
        return (t.array.astype(np.float32) - np.float32(zeros[0])) * np.asarray(scales, np.float32).reshape(along)

    def out_quant(self, op: Op) -> Quant | None:
        """The scale an op is asked to write its result with."""
        return op.results[0].type.quant if op.attrs.get("out") else None

    def only_reader(self, v: Value) -> Op | None:
        """The op that alone reads `v`, if `v` is no output."""
        if len(v.users) != 1 or any(o is v for o in self.ir.outputs):
            return None
        (reader,) = v.users
        return reader


def typical_sizes(graph: Graph, least: Mapping[str, int]) -> dict[str, int]:
    """A length for every symbol at which all sizes of the graph are positive: what a file is allocated for at first."""
    sizes: set[Size] = {
        s
        for op in graph.ops
        for v in (*op.operands, *op.results)
        if v is not None
        for s in v.type.sizes
        if isinstance(s, Expr)
    }
    sizes |= {s for v in (*graph.inputs, *graph.states.values()) for s in v.type.sizes if isinstance(s, Expr)}
    names = sorted(set().union(*(symbols(s) for s in sizes))) if sizes else []
    guess = 1
    while guess <= 2**24:
        tried = {n: max(guess, least.get(n, 1)) for n in names}
        if all(evaluate(s, tried) > 0 for s in sizes):
            return tried
        guess += max(guess // 4, 1)
    raise UnsupportedError(
        "SC313", f"no length makes every size positive: {', '.join(map(str, sorted(sizes, key=str)))}"
    )

"""Let the batch vary: the first dimension of every input with time becomes the symbol `batch`, op by op."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..ir.errors import IRError, UnsupportedError
from ..ir.expr import Expr, Size, floordiv, same, substitute, symbol, symbols
from ..ir.graph import Builder, Graph, Op, Value
from ..ir.ops.shape import runs
from ..ir.registry import definition
from ..ir.types import Dim, Tensor, normal_axis
from .base import Context, Exact, Pass
from .stream.walk import replaced

BATCH = "batch"
LENGTHS = (24, 37)  # at which values that depend on lengths alone are run
WAY_OUT = "--batch 1 makes all rows one stream; or capture the model with a batch that varies"


class FreeBatch(Pass):
    """Replace the batch that a model was captured with (its inputs' first dimension) by the symbol `batch`.

    The batch is followed through every op: sizes that hold it are rewritten, carries and constants as large as the
    batch become as large as it is now. A graph in which it cannot be followed (rows of the batch are mixed, or merged
    with time) is left alone; with `must`, that is `UnsupportedError` SC214. Inputs without time are shared by all
    streams where they have one row; with `own`, each stream has a row of its own.
    """

    name, stage, equal = "free-batch", "streaming", Exact()
    must: bool = False
    own: bool = False

    def run(self, graph: Graph, context: Context) -> None:
        if free(graph) or not any(_timed(v.type) for v in graph.inputs):
            return
        try:
            made = _Freed(graph, self.own).graph
        except UnsupportedError as error:
            if self.must:
                raise
            op = next(iter(graph.ops))
            context.remark("missed", self.name, f"{error.message} ({', '.join(error.where)})", op)
            return
        if context.allow():
            replaced(graph, made)


def free(graph: Graph) -> bool:
    """Whether the batch varies already."""
    return any(BATCH in symbols(s) for v in graph.inputs for s in v.type.sizes)


def _timed(type: Tensor) -> bool:
    return any(d.time is not None for d in type.shape)


# -- which ops mix the rows of the batch -----------------------------------------------------------------------------
def _along(name: str) -> Callable[[Op, int, int], bool]:
    return lambda op, rank, axis: axis == normal_axis(op.attrs[name], rank)


MIXES: dict[str, Callable[[Op, int, int], bool]] = {
    **dict.fromkeys(("sum", "mean", "max", "min"), lambda op, rank, axis: axis in op.attrs["axes"]),
    **dict.fromkeys(("argmax", "softmax", "log_softmax", "cumsum", "cummax", "flip", "resize"), _along("axis")),
    **dict.fromkeys(("concat", "gather_elements", "batch_norm"), _along("axis")),
    **dict.fromkeys(("linear", "rms_norm", "frame"), lambda op, rank, axis: axis == rank - 1),
    **dict.fromkeys(("attention", "overlap_add"), lambda op, rank, axis: axis >= rank - 2),
    **dict.fromkeys(("conv", "conv_transpose", "max_pool", "avg_pool"), lambda op, rank, axis: axis != 0),
    **dict.fromkeys(("group_norm", "lstm", "gru", "rnn"), lambda op, rank, axis: axis != 0),
    **dict.fromkeys(("transpose", "reshape", "expand", "slice", "quantize", "dequantize", "retime", "matmul", "gather"),
                    lambda op, rank, axis: False),
    "layer_norm": lambda op, rank, axis: axis >= normal_axis(op.attrs["axis"], rank),
    "pad": lambda op, rank, axis: op.attrs["pads"][axis] != (0, 0),
}  # fmt: skip
CARRIES = {"lstm": 2, "gru": 1, "rnn": 1}
EQUAL = ("concat", "gather_elements")  # operands are not broadcast
MANY = {"matmul", "attention", "gather", *EQUAL}  # ops that may read the batch through any operand


def batch_of(type: Tensor) -> tuple[int, int] | None:
    """The dimension that holds the batch, and how many rows of it each stream has.

    Raises `UnsupportedError` SC214 where that is no one number.
    """
    axes = [i for i, s in enumerate(type.sizes) if BATCH in symbols(s)]
    if not axes:
        return None
    size = type.sizes[axes[0]]
    rows = substitute(size, {BATCH: 1})
    if len(axes) > 1 or not isinstance(rows, int) or size != rows * symbol(BATCH):
        raise UnsupportedError("SC214", f"the batch is merged with other dimensions: {type}", hints=[WAY_OUT])
    return axes[0], rows


class _Freed:
    """The graph again, its batch a symbol."""

    def __init__(self, old: Graph, own: bool):
        self.old, self.graph, self.own = old, Graph(old.name, old.weights), own
        self.b = Builder(self.graph)
        self.values: dict[int, Value] = {}
        self.arrays: dict[int, list[np.ndarray]] = {}
        self.captured = self._captured()
        for v in old.inputs:
            self.values[id(v)] = self.graph.input(v.name, self._freed(v))
        if old.states:
            self._refuse(next(iter(next(iter(old.states.values())).users)), "it keeps state of its own")
        for op in old.ops:
            self._visit(op)
        for v, name in zip(old.outputs, old.output_names):
            self.graph.output(self._value(v), name)

    def _captured(self) -> int:
        """The batch of the inputs with time."""
        found = set()
        for v in self.old.inputs:
            if _timed(v.type):
                first = v.type.shape[0]
                if v.type.rank < 2 or first.time is not None or not isinstance(first.size, int):
                    raise UnsupportedError("SC214", f"input {v.name} of {v.type} has no dimension that is the batch",
                                           hints=[WAY_OUT])  # fmt: skip
                found.add(first.size)
        if len(found) != 1:
            raise UnsupportedError("SC214", f"inputs have batches of {found}", hints=[WAY_OUT])
        return found.pop()

    def _freed(self, v: Value) -> Tensor:
        """Inputs without time hold one row a stream where there are as many rows as streams, and several or `own`."""
        own = v.type.rank and v.type.sizes[0] == self.captured and (self.captured > 1 or self.own)
        if not _timed(v.type) and not own:
            return v.type
        return v.type.with_(shape=[Dim(symbol(BATCH)), *v.type.shape[1:]])

    def _value(self, v: Value) -> Value:
        if v.kind == "const":
            return v
        return self.graph.weight_value(v.payload) if v.kind == "weight" else self.values[id(v)]

    def _refuse(self, op: Op, why: str) -> None:
        line = f"{op!r}".split("  @")[0].strip()
        raise UnsupportedError("SC214", f"the batch cannot be followed through {op.kind}: {why}",
                               [str(op.loc), line], [WAY_OUT])  # fmt: skip

    # -- one op ------------------------------------------------------------------------------------------------------
    def _visit(self, op: Op) -> None:
        self.b.loc = op.loc
        operands = [None if v is None else self._value(v) for v in op.operands]
        try:
            held = [None if v is None else batch_of(v.type) for v in operands]
            made = self._made(op, operands, held)
            for r, new in zip(op.results, made, strict=True):
                batch_of(new.type)
                self._check(op, r.type, new.type)
                self.values[id(r)] = new
        except UnsupportedError as error:
            if error.where:
                raise
            self._refuse(op, error.message)
        except IRError as error:
            self._refuse(op, error.message)

    def _check(self, op: Op, old: Tensor, new: Tensor) -> None:
        """With the batch of the capture, the new type must be the old one."""
        alike = all(
            same(a.size, substitute(b.size, {BATCH: self.captured})) and (a.time is None) == (b.time is None)
            for a, b in zip(old.shape, new.shape, strict=True)
        )
        if not alike:
            self._refuse(op, f"its result would be {new}, where it was {old}")

    def _made(self, op: Op, operands: list[Value | None], held: list) -> tuple[Value, ...]:
        streams = [i for i, h in enumerate(held) if h is not None]
        attrs = op.attrs
        if streams:
            pointwise = definition(op.kind).family == "pointwise"
            if not pointwise:
                self._allowed(op, operands, held, streams)
            if op.kind in ATTRS:
                x, axis = operands[0], held[0][0]
                attrs = {**attrs, **ATTRS[op.kind](self, op, x, axis)}
            elif op.kind in CARRIES:
                for i in range(1, 1 + CARRIES[op.kind]):
                    operands[i] = self._filled(op, i, operands[i], held, 0, held[0][1], True)
            elif pointwise or op.kind in MANY - {"gather"}:
                operands = self._beside(op, operands, held, streams)
        if attrs != op.attrs or any(v is not None and self._value(o) is not v for v, o in zip(operands, op.operands)):
            self.b.loc = op.loc.through(FreeBatch.name)
        made = self.b.emit(op.kind, operands, attrs)
        return made if isinstance(made, tuple) else (made,)

    def _allowed(self, op: Op, operands: list, held: list, streams: list[int]) -> None:
        mixes = MIXES.get(op.kind)
        if mixes is None:
            self._refuse(op, "nothing is known of its rows")
        most = CARRIES.get(op.kind, 0)
        if (op.kind not in MANY and streams[-1] > most) or (op.kind == "gather" and len(streams) > 1):
            self._refuse(op, "its weights differ from stream to stream")
        for i in streams:
            axis, rank = held[i][0], operands[i].type.rank
            mixed = mixes(op, rank, axis)
            if op.kind == "matmul":
                mixed = rank - axis == (1 if i == 0 else 2)
            elif op.kind == "gather":
                mixed = i == 0 and axis == op.attrs["axis"]
            elif op.kind == "attention" and i == 3:
                mixed = False
            if mixed:
                self._refuse(op, "it mixes the rows of the batch")

    def _beside(self, op: Op, operands: list, held: list, streams: list[int]) -> list[Value | None]:
        """Operands that are the same for every stream, laid out to stand beside those that are not."""
        places = {operands[i].type.rank - held[i][0] for i in streams}  # counted from the last dimension
        rows = max(held[i][1] for i in streams)
        if len(places) != 1:
            self._refuse(op, "its operands hold the batch in different dimensions")
        (place,) = places
        if op.kind == "matmul" and place < 3:
            return operands
        made = list(operands)
        for i, v in enumerate(operands):
            if v is not None and i not in streams and v.type.rank >= place:
                whole = op.kind in EQUAL or (op.kind == "attention" and i < 3 and place == 3)
                made[i] = self._filled(op, i, v, held, v.type.rank - place, rows, whole)
        return made

    def _filled(self, op: Op, i: int, v: Value, held: list, axis: int, rows: int, whole: bool) -> Value:
        """An operand without a batch, as `rows` rows a stream along `axis`; `whole`: even where it is broadcast."""
        if held[i] is not None:
            return v
        size, b = v.type.sizes[axis], self.b
        b.loc = op.loc.through(FreeBatch.name)
        if size == rows * self.captured and size > 1:
            if self.captured > 1:
                self._alike(op, op.operands[i], axis, rows)
                v = b.slice(v, axis=axis, start=0, stop=rows)
            size = rows
        shape = list(v.type.sizes)
        if size == 1:
            shape[axis] = rows * symbol(BATCH)
            return b.expand(v, shape=shape) if whole else v
        if size != rows:
            self._refuse(op, f"{v} has {size} rows beside {rows} a stream")
        v = b.reshape(v, shape=(*shape[:axis], 1, *shape[axis:]))
        v = b.expand(v, shape=(*shape[:axis], symbol(BATCH), *shape[axis:]))
        return b.reshape(v, shape=(*shape[:axis], rows * symbol(BATCH), *shape[axis + 1 :]))

    # -- sizes in attributes -----------------------------------------------------------------------------------------
    def _reshape(self, op: Op, x: Value, axis: int) -> dict:
        target = list(op.attrs["shape"])
        for i0, i, j0, j in runs(op.operands[0].type.sizes, tuple(target)):
            if i0 <= axis < i:
                if any(s != 1 for s in x.type.sizes[i0:axis]):
                    self._refuse(op, "the batch is not the slowest of the dimensions that it merges")
                at = next((k for k in range(j0, j) if self.captured == 1 or target[k] != 1), None)
                if at is None or not same(floordiv(target[at], self.captured) * self.captured, target[at]):
                    self._refuse(op, "no dimension of its result holds the batch")
                target[at] = floordiv(target[at], self.captured) * symbol(BATCH)
        return {"shape": tuple(target)}

    def _expand(self, op: Op, x: Value, axis: int) -> dict:
        target = list(op.attrs["shape"])
        at = len(target) - x.type.rank + axis
        if not same(target[at], op.operands[0].type.sizes[axis]):
            self._refuse(op, "it repeats the batch")
        target[at] = x.type.sizes[axis]
        return {"shape": tuple(target)}

    def _slice(self, op: Op, x: Value, axis: int) -> dict:
        a = op.attrs
        if a["axis"] != axis:
            return {}
        if (a["start"], a["stop"], a["step"]) != (0, op.operands[0].type.sizes[axis], 1):
            self._refuse(op, "it picks rows of the batch")
        return {"stop": x.type.sizes[axis]}

    # -- values that do not depend on inputs --------------------------------------------------------------------------
    def _alike(self, op: Op, v: Value, axis: int, rows: int) -> None:
        """Refuse a value whose rows are not the same for every stream."""
        for array in self._run(op, v):
            parts = np.split(array, self.captured, axis)
            if not all(np.array_equal(p, parts[0]) for p in parts):
                self._refuse(op, f"{v} is another for every stream")

    def _run(self, op: Op, v: Value) -> list[np.ndarray]:
        if v.known:
            return [v.array] * len(LENGTHS)
        if id(v) not in self.arrays:
            if v.op is None:
                self._refuse(op, f"{v} is the same input for all streams")
            names = {s for i in self.old.inputs for d in i.type.sizes if isinstance(d, Expr) for s in symbols(d)}
            operands = [None if o is None else self._run(op, o) for o in v.op.operands]
            made = [self._once(v.op, [o and o[k] for o in operands], dict.fromkeys(names, n))
                    for k, n in enumerate(LENGTHS)]  # fmt: skip
            for r, *arrays in zip(v.op.results, *made):
                self.arrays[id(r)] = arrays
        return self.arrays[id(v)]

    def _once(self, op: Op, arrays: list, sizes: Mapping[str, int]) -> tuple[np.ndarray, ...]:
        return definition(op.kind).run(op, arrays, sizes, lambda name: self.old.weights[name].array)


ATTRS: dict[str, Callable[[_Freed, Op, Value, int], dict[str, Size | tuple]]] = {
    "reshape": _Freed._reshape,
    "expand": _Freed._expand,
    "slice": _Freed._slice,
}

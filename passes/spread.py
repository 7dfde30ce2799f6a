"""Give time to what had none: rebuild the ops between a statistic over time and its joins, one value a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..ir.errors import IRError
from ..ir.expr import same
from ..ir.graph import Builder, Graph, Op, Value
from ..ir.registry import definition
from ..ir.types import Dim, normal_axis
from .simplify import inferred


class Spread(NamedTuple):
    """A value with a result a frame. `at`: the axis of time, where the old value has 1; None: a new first axis."""

    value: Value
    at: int | None


class Stuck(Exception):
    """An op that cannot be rebuilt, with the reason."""


class Region:
    """The ops that depend on one statistic, up to where they meet a stream of the same time again.

    Nothing that exists is changed before `apply`; `drop` takes back what was built.
    """

    def __init__(self, graph: Graph, name: str, time: Dim, count: Callable[[Builder], Value], outputs: bool):
        self.graph, self.name, self.time, self.count, self.outputs = graph, name, time, count, outputs
        self.known: dict[int, Spread] = {}
        self.joins: list[tuple[Op, tuple[Value | None, ...]]] = []
        self.returned: list[tuple[int, Value]] = []
        self.built: list[Op] = []

    def grow(self, old: Value, spread: Spread) -> None:
        """Rebuild every reader of `old`, and theirs. Raises `Stuck`."""
        self.known[id(old)] = spread
        self._output(old)
        ops = list(self.graph.ops)
        for op in ops[ops.index(old.op) + 1 :]:
            if any(v is not None and id(v) in self.known for v in op.operands):
                self._visit(op)

    def apply(self) -> None:
        """Make the joins read what was built."""
        for op, operands in self.joins:
            for i, v in enumerate(operands):
                op.set_operand(i, v)
            op.loc = op.loc.through(self.name)
        for i, v in self.returned:
            self.graph.outputs[i] = v

    def drop(self) -> None:
        """Erase what was built."""
        for op in reversed(self.built):
            if op.graph is not None:
                self.graph.erase(op)

    def builder(self, op: Op) -> Recorder:
        return Recorder(self.graph, op.loc.through(self.name), op, self.built)

    # -- one op ----------------------------------------------------------------------------------------------------
    def _visit(self, op: Op) -> None:
        g = self.builder(op)
        if any(_timed(v) for v in op.operands if v is not None and id(v) not in self.known):
            self._join(g, op)
            return
        try:
            made = self._rebuilt(g, op)
        except IRError as error:
            raise Stuck(f"{op.kind}: {error.message}") from None
        self.known[id(op.result)] = made
        self._output(op.result)

    def _output(self, old: Value) -> None:
        for i, v in enumerate(self.graph.outputs):
            if v is not old:
                continue
            if not self.outputs:
                raise Stuck("an output has no time: outputs=True gives it one result a frame")
            spread = self.known[id(old)]
            value = spread.value
            if spread.at is None and old.type.rank:
                g = Recorder(self.graph, old.op.loc.through(self.name), None, self.built)
                value = g.transpose(value, perm=(1, 0, *range(2, value.type.rank)))
            self.returned.append((i, value))

    def _join(self, g: Builder, op: Op) -> None:
        kind, shape = definition(op.kind), op.result.type.shape if len(op.results) == 1 else ()
        times = [i for i, d in enumerate(shape) if d.time is not None]
        if kind.family != "pointwise" and op.kind != "concat":
            raise Stuck(f"{op.kind} joins it with a stream")
        if len(times) != 1 or not same(shape[times[0]].size, self.time.size) or op.attrs.get("axis") == times[0]:
            raise Stuck(f"{op.kind} joins it with another time")
        operands = []
        for v in op.operands:
            if v is None or id(v) not in self.known:
                operands.append(v)
            else:
                operands.append(self._kept(g, v, times[0] - len(shape) + v.type.rank))
        try:
            fits = inferred(op.kind, *operands, **op.attrs) == op.result.type
        except IRError:
            fits = False
        if not fits:
            raise Stuck(f"{op.kind} joins it with another time")
        self.joins.append((op, tuple(operands)))

    def _rebuilt(self, g: Builder, op: Op) -> Spread:
        known = [self.known.get(id(v)) for v in op.operands]
        rank = op.result.type.rank if len(op.results) == 1 else 0
        if len(op.results) != 1:
            raise Stuck(f"{op.kind} has no rule")
        if definition(op.kind).family == "pointwise":
            places = {s.at + rank - v.type.rank for s, v in zip(known, op.operands) if s and s.at is not None}
            apart = any(s is not None and s.at is None for s in known) or any(map(self._sized, op.operands))
            if len(places) == 1 and not apart:
                values = [s.value if s else v for s, v in zip(known, op.operands)]
                return Spread(g.emit(op.kind, values, op.attrs), places.pop())
        if op.kind == "conv":
            return self._conv(g, op)
        if op.kind == "expand":
            return self._expand(g, op)
        rule = FRONT.get(op.kind) or (FRONT[""] if definition(op.kind).family == "pointwise" else None)
        if rule is None:
            raise Stuck(f"{op.kind} has no rule")
        attrs = rule(op, self.time.size)
        if op.kind in ("linear", "batch_norm", "layer_norm", "rms_norm") and known[0] is None:
            raise Stuck(f"{op.kind} with weights that it computes")
        lifted = rank if rule is FRONT[""] else None
        operands = [self._front(g, v, lifted) for v in op.operands]
        if op.kind == "concat":
            operands = [
                v if id(o) in self.known else g.expand(v, shape=(self.time.size, *o.type.sizes))
                for v, o in zip(operands, op.operands)
            ]
        return Spread(g.emit(op.kind, operands, attrs), None)

    def _conv(self, g: Builder, op: Op) -> Spread:
        """A convolution whose kernel is 1 along an axis of size 1 runs along that axis as well."""
        x, *others = op.operands
        first = 1 if op.attrs["channel_last"] else 2
        for i, (k, p) in enumerate(zip(op.operands[1].type.sizes[2:], op.attrs["pad"])):
            if id(x) in self.known and x.type.sizes[first + i] == 1 and k == 1 and tuple(p) == (0, 0):
                stride = tuple(1 if j == i else s for j, s in enumerate(op.attrs["stride"]))
                value = g.emit("conv", (self._kept(g, x, first + i), *others), {**op.attrs, "stride": stride})
                return Spread(value, first + i)
        raise Stuck("conv of more than one frame")

    def _expand(self, g: Builder, op: Op) -> Spread:
        """To as many frames as there are: the values of those frames. Else each of them expanded alike."""
        (x,), shape = op.operands, op.attrs["shape"]
        lead = len(shape) - x.type.rank
        for i, s in enumerate(shape):
            if same(s, self.time.size) and (i < lead or x.type.sizes[i - lead] == 1):
                value = self._kept(g, x, i - lead)
                return Spread(g.expand(value, shape=shape), i)
        return Spread(g.expand(self._front(g, x, len(shape)), shape=(self.time.size, *shape)), None)

    # -- layouts ---------------------------------------------------------------------------------------------------
    def _sized(self, v: Value | None) -> bool:
        """Whether `v` is computed from the number of frames alone."""
        if v is None or v.op is None or id(v) in self.known:
            return False
        if v.op.kind == "size":
            return same(v.op.attrs["of"], self.time.size)
        return definition(v.op.kind).family == "pointwise" and any(map(self._sized, v.op.operands))

    def _counted(self, g: Builder, v: Value) -> Value:
        """The same of the number of frames so far, at least 1 where something is taken off it: f32[T, 1, …]."""
        op = v.op
        if op is None or not self._sized(v):
            return v
        if op.kind == "size":
            return self.count(g)
        made = g.emit(op.kind, [self._counted(g, o) for o in op.operands], op.attrs)
        one = g.const(1, made.type.dtype)
        return g.maximum(made, one) if op.kind == "sub" else made

    def _front(self, g: Builder, v: Value | None, rank: int | None = None) -> Value | None:
        """`v` with time as a new first axis, and `rank` axes behind it."""
        if v is None:
            return v
        if self._sized(v):
            made = self._counted(g, v)
            return g.reshape(made, shape=(self.time.size, *[1] * (v.type.rank if rank is None else rank)))
        if id(v) not in self.known:
            return v
        value, at = self.known[id(v)]
        if at is not None:
            old = v.type.sizes
            value = g.transpose(value, perm=(at, *(i for i in range(len(old)) if i != at)))
            value = g.reshape(value, shape=(self.time.size, *(1 if i == at else s for i, s in enumerate(old))))
        more = 0 if rank is None else rank - v.type.rank
        return g.reshape(value, shape=(self.time.size, *[1] * more, *value.type.sizes[1:])) if more else value

    def _kept(self, g: Builder, v: Value, axis: int) -> Value:
        """`v` with time at `axis`, where it is 1 (negative: before its first)."""
        value, at = self.known[id(v)]
        if at == axis:
            return value
        if axis < 0:
            value, axis, rank = self._front(g, v, v.type.rank - axis), 0, v.type.rank - axis
        else:
            value, rank = self._front(g, v), v.type.rank
        if value.type.sizes[axis + 1] != 1:
            raise Stuck("it meets time along an axis of another meaning")
        perm = (*range(1, axis + 1), 0, *range(axis + 2, rank + 1), axis + 1)
        value = g.transpose(value, perm=perm)
        return g.reshape(value, shape=value.type.sizes[:-1])


class Recorder(Builder):
    """A builder that remembers what it built."""

    def __init__(self, graph: Graph, loc, before: Op | None, built: list[Op]):
        super().__init__(graph, loc, before)
        self.built = built

    def emit(self, kind, operands, attrs=None):
        made = super().emit(kind, operands, attrs)
        self.built.append((made[0] if isinstance(made, tuple) else made).op)
        return made


def _timed(v: Value) -> bool:
    return any(d.time is not None for d in v.type.shape)


def _shifted(op: Op, name: str) -> dict:
    return {**op.attrs, name: normal_axis(op.attrs[name], op.operands[0].type.rank) + 1}


def _one_more(op: Op, n) -> dict:
    return _shifted(op, "axis")


def _axes(op: Op, n) -> dict:
    return {**op.attrs, "axes": tuple(a + 1 for a in op.attrs["axes"])}


def _unchanged(op: Op, n) -> dict:
    return op.attrs


# The attributes of an op whose operand has one more axis in front. "": every pointwise op, axes lined up from the back.
FRONT: dict[str, Callable[[Op, object], dict]] = {
    "": _unchanged,
    "linear": _unchanged,
    "matmul": _unchanged,
    "rms_norm": _unchanged,
    "reshape": lambda op, n: {"shape": (n, *op.attrs["shape"])},
    "transpose": lambda op, n: {"perm": (0, *(p + 1 for p in op.attrs["perm"]))},
    **dict.fromkeys(("slice", "concat", "softmax", "log_softmax", "layer_norm", "batch_norm"), _one_more),
    **dict.fromkeys(("sum", "mean", "max", "min"), _axes),
}

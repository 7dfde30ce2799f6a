"""Static quantization: which values carry an 8-bit grid, and where quantize and dequantize go (the QDQ form)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..ir.graph import Builder, Graph, Op, Value
from ..ir.types import LIMITS
from .calibrate import Grid, Histogram, grid
from .quantize_select import data_operands
from .quantize_weights import codes, weights_of

# kind: the operands that an integer kernel wants in 8 bits (weights aside, see WEIGHTS).
INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("linear", "conv", "conv_transpose", "max_pool", "avg_pool", "mean", "softmax"), (0,)),
    **dict.fromkeys(("sigmoid", "tanh", "relu", "silu", "gelu", "leaky_relu"), (0,)),
    **dict.fromkeys(("matmul", "add", "sub", "mul"), (0, 1)),
}
# Results whose range is known without looking: (scale, zero point counted from the least code).
KNOWN: dict[str, tuple[float, int]] = {"sigmoid": (1 / 256, 0), "softmax": (1 / 256, 0), "tanh": (1 / 128, 128)}
# The result is on the grid of the operand: nothing but a choice among its numbers.
SAME = frozenset(("max_pool",))
MOVES = frozenset(("reshape", "transpose", "expand", "flip", "slice", "pad"))


def inputs_of(op: Op) -> list[tuple[int, Value]]:
    """The operands of `op` that static quantization puts on a grid."""
    wanted = INPUTS.get(op.kind, ())
    return [(i, v) for i, v in data_operands(op) if i in wanted]


def _moves(op: Op | None) -> bool:
    if op is None or op.kind not in MOVES:
        return False
    return op.kind != "pad" or op.attrs["mode"] != "constant" or op.attrs["value"] == 0


@dataclass
class Placement:
    """Where grids go for `sites` (ops to run in integers), `glue` (pointwise ops worth it only between sites), and
    `outputs` (the sites whose result is quantized as well, because their integer kernels write 8 bits).
    """

    graph: Graph
    sites: list[Op]
    glue: list[Op]
    outputs: set[Op]
    grids: dict[Value, Grid] = field(default_factory=dict)
    _codes: dict[Value, Value] = field(default_factory=dict)
    _reals: dict[Value, Value] = field(default_factory=dict)

    def __post_init__(self):
        known = [op for op in self.glue if len(inputs_of(op)) < len(INPUTS[op.kind])]
        self.glue = [op for op in self.glue if op not in known]
        self._forced = self._force()
        while pruned := [op for op in self.glue if not self._between(op)]:
            self.glue = [op for op in self.glue if op not in pruned]
            self._forced = self._force()
        wanted = [v for op in (*self.sites, *self.glue) for _, v in inputs_of(op)]
        self.roots = list(dict.fromkeys([*self._forced, *map(self.origin, wanted)]))

    # -- which values ----------------------------------------------------------------------------------------------
    def _force(self) -> dict[Value, None]:
        ends = [end_of(op) for op in self.sites if op in self.outputs]
        return dict.fromkeys([*ends, *(op.result for op in self.glue)])

    def origin(self, v: Value) -> Value:
        """The value on whose grid `v` is: the one that was moved to make it.

        A slice shares the grid of the whole only where the whole is computed in 8 bits anyway.
        """
        part = None
        while _moves(v.op):
            if v.op.kind == "slice" and part is None:
                part = v
            v = v.op.operands[0]
        return v if part is None or v in self._forced else part

    def _between(self, op: Op) -> bool:
        """Whether everything that `op` reads is computed in 8 bits, and everything that reads it wants them."""
        integer = {*self.sites, *self.glue}

        def wants(v: Value) -> bool:
            if any(o is v for o in self.graph.outputs) or not v.users:
                return False
            return all(
                (_moves(u) and wants(u.result)) or (u in integer and all(i in INPUTS[u.kind] for i in _at(u, v)))
                for u in v.users
            )

        return all(self.origin(v) in self._forced for _, v in inputs_of(op)) and wants(op.result)

    def to_calibrate(self) -> list[Value]:
        """The values whose range has to be measured."""
        return [v for v in self.roots if v.op is None or v.op.kind not in (KNOWN.keys() | SAME)]

    def choose(
        self, seen: Mapping[int, Histogram], dtype: str, symmetric: bool, method: str, percentile: float
    ) -> None:
        """Put a grid on every root, from histograms by id."""
        order = {id(r): i for i, r in enumerate(r for op in self.graph.ops for r in op.results)}
        for v in sorted(self.roots, key=lambda v: order.get(id(v), -1)):
            if id(v) in seen:
                self.grids[v] = grid(*seen[id(v)].range(method, percentile), dtype, symmetric)
            elif v.op.kind in KNOWN:
                scale, zero = KNOWN[v.op.kind]
                least, most = LIMITS[dtype]
                self.grids[v] = grid(-1, 1, dtype, True) if symmetric else Grid(dtype, scale, zero + least)
            else:
                self.grids[v] = self.grids[self.origin(v.op.operands[0])]

    # -- building --------------------------------------------------------------------------------------------------
    def build(self) -> None:
        """Put quantize and dequantize in place."""
        for op in (*self.sites, *self.glue):
            for i, v in inputs_of(op):
                op.set_operand(i, self._real(v, op))
            b = Builder(self.graph, op.loc.through("quantize"), before=op)
            for i, w, axis in weights_of(op):
                op.set_operand(i, b.dequantize(codes(b, w, axis)))
        for v in self._forced:
            real, stored = self._real(v, v.op), self._codes[v]
            self.graph.replace(v, real)
            stored.op.set_operand(0, v)
        self.graph.sweep()

    def _builder(self, v: Value, reader: Op) -> Builder:
        """A builder right behind `v`."""
        op = v.op
        first = next(iter(self.graph.ops))
        return Builder(self.graph, (op or reader).loc.through("quantize"), before=op.next if op is not None else first)

    def _stored(self, v: Value, reader: Op) -> Value:
        if v not in self._codes:
            b, root = self._builder(v, reader), self.origin(v)
            on = self.grids[root]
            if v is root:
                self._codes[v] = b.quantize(v, scale=on.scale, zero_point=on.zero_point, dtype=on.dtype)
            else:
                inner = self._stored(v.op.operands[0], reader)
                attrs = dict(v.op.attrs)
                if v.op.kind == "pad" and attrs["mode"] == "constant":
                    attrs["value"] = float(on.zero_point)
                self._codes[v] = b.emit(v.op.kind, (inner, *v.op.operands[1:]), attrs)
        return self._codes[v]

    def _real(self, v: Value, reader: Op) -> Value:
        if v not in self._reals:
            stored = self._stored(v, reader)
            b = Builder(self.graph, stored.op.loc, before=stored.op.next)
            self._reals[v] = b.dequantize(stored)
        return self._reals[v]


def end_of(op: Op) -> Value:
    """The result of `op`, or of the relu that alone reads it: clipping is part of rounding to a grid."""
    readers = list(op.result.users)
    alone = len(readers) == 1 and readers[0].kind == "relu" and all(o is not op.result for o in op.graph.outputs)
    return readers[0].result if alone else op.result


def _at(op: Op, v: Value) -> Iterable[int]:
    return (i for i, o in enumerate(op.operands) if o is v)

"""Remove what does nothing: identities, moves that cancel, casts and slices to what is already there."""

from __future__ import annotations

from ..ir.errors import IRError
from ..ir.expr import same
from ..ir.graph import Graph, Loc, Op, Value
from ..ir.registry import definition
from ..ir.types import Tensor, broadcast
from .base import Context, Exact, Pass
from .rewrite import Rewrite, drive, is_number


class Simplify(Pass):
    """Drop ops that return their operand, and merge neighbouring reshapes, transposes and casts."""

    name, stage, equal = "simplify", "normalize", Exact()

    def run(self, graph: Graph, context: Context) -> None:
        drive(graph, [part() for part in PARTS], context)


class _Part(Rewrite):
    """One identity; they report under the name of the pass."""


_Part.name = Simplify.name
PARTS: list[type[Rewrite]] = []


def _part(cls: type[Rewrite]) -> type[Rewrite]:
    PARTS.append(cls)
    return cls


@_part
class Unchanged(_Part):
    """A move whose result has the type of its operand, and does not reorder, is its operand."""

    def match(self, p, x):
        return [p.one_of(("reshape", "expand", "cast"), x), p.slice(x), p.pad(x), p.concat(x), p.transpose(x)]

    def check(self, m):
        op = m.root
        if op.kind == "transpose":
            return list(op.attrs["perm"]) == sorted(op.attrs["perm"])
        if op.kind == "concat" and len(op.operands) > 1:
            return False
        if op.kind == "slice":
            whole = same(op.attrs["stop"], m.x.type.shape[op.attrs["axis"]].size)
            return op.attrs["start"] == 0 and op.attrs["step"] == 1 and whole
        return op.result.type == m.x.type

    def build(self, g, m):
        return m.x


@_part
class Neutral(_Part):
    """x + 0, x - 0, x * 1, x / 1 and x to the power of 1, where nothing is broadcast."""

    def match(self, p, x):
        return [p.add(x, 0), p.sub(x, 0), p.mul(x, 1), p.div(x, 1), p.pow(x, 1)]

    def check(self, m):
        return m.root.result.type == m.x.type

    def build(self, g, m):
        return m.x


@_part
class ReshapeTwice(_Part):
    """A reshape of a reshape is one reshape, where time finds its way as before."""

    def match(self, p, x):
        return p.reshape(p.reshape(x, shared=True))

    def check(self, m):
        try:
            return m.root.result.type == inferred("reshape", m.x, shape=m.root.attrs["shape"])
        except IRError:  # the sizes cannot be shown equal in one step
            return False

    def build(self, g, m):
        return g.reshape(m.x, shape=m.root.attrs["shape"])


def inferred(kind: str, *operands: Value, **attrs) -> Tensor:
    """The type that an op would have."""
    return definition(kind).infer(Op(kind, operands, attrs, Loc("")))[0]


@_part
class TransposeTwice(_Part):
    """A transpose of a transpose is one transpose."""

    def match(self, p, x):
        return p.transpose(p.transpose(x, shared=True, name="first"), name="second")

    def build(self, g, m):
        first, second = m["first"].attrs["perm"], m["second"].attrs["perm"]
        perm = tuple(first[i] for i in second)
        return m.x if list(perm) == sorted(perm) else g.transpose(m.x, perm=perm)


@_part
class DoubleNegation(_Part):
    """-(-x) is x, not not x is x."""

    def match(self, p, x):
        return [p.neg(p.neg(x, shared=True)), p.logical_not(p.logical_not(x, shared=True))]

    def build(self, g, m):
        return m.x


@_part
class ExpandBeforeBroadcast(_Part):
    """A pointwise op broadcasts by itself: it need not read an expanded operand."""

    def match(self, p, x, y):
        expanded = p.expand(x, shared=True)
        kinds = ("add", "mul", "sub", "div", "minimum", "maximum", "less", "less_equal", "equal")
        options = {"name": "op", "bare": False}
        return [p.one_of(kinds, expanded, y, **options), p.one_of(kinds, y, expanded, **options)]

    def check(self, m):
        expanded = next((v for v in m["op"].operands if v is not m.y), None)
        if m.x is m.y or expanded is None or expanded.op is None or expanded.op.kind != "expand":
            return False
        if m["op"].attrs.get("dynamic"):  # its scales are those of the expanded rows
            return False
        try:
            shape = broadcast(m.x.type.shape, m.y.type.shape)
        except IRError:
            return False
        return m.root.result.type == m.root.result.type.with_(shape=shape)

    def build(self, g, m):
        operands = [m.y if v is m.y else m.x for v in m["op"].operands]
        return g.emit(m["op"].kind, operands, m["op"].attrs)


@_part
class MaskNothing(_Part):
    """An attention mask that lets everything through is no mask."""

    def match(self, p, q, k, v, mask):
        return p.attention(q, k, v, mask, name="attention", bare=False)

    def check(self, m):
        if m.mask is None:
            return False
        inner = m.mask
        while inner.op is not None and inner.op.kind in ("expand", "reshape"):
            inner = inner.op.operands[0]
        return is_number(inner, 1.0 if inner.type.dtype == "bool" else 0.0)

    def build(self, g, m):
        return g.attention(m.q, m.k, m.v, None, **m["attention"].attrs)

"""Matrix products on rows: drop a batch of 1 where all sizes are known; no product has to reshape its operands."""

from __future__ import annotations

from ..ir.errors import IRError
from ..ir.graph import Builder, Graph, Op, Value
from ..ir.registry import definition
from .base import Context, Exact, Pass

# Kinds that mean the same with one dimension less in front; those with an attribute `axis` count it from the front.
ROWS = frozenset(("linear", "layer_norm", "rms_norm", "softmax", "log_softmax", "slice", "concat", "transpose"))

GRIDS = ("quantize", "dequantize")
WINDOWS = ("conv", "conv_transpose", "max_pool", "avg_pool")


class FlattenBatch(Pass):
    """[1, frames, features] → linear, norms and pointwise ops → [1, frames, features] on [frames, features].

    Only where a run of such ops holds a linear layer: a runtime turns a product of three dimensions into two reshapes
    and one of two. Every op is wrapped in reshapes; between neighbours they cancel. A runtime finds integer kernels by
    the quantize and dequantize right beside an op: they are wrapped only together with all that read them, and not
    where they follow a convolution.
    """

    name, stage, equal = "flatten-batch", "legalize", Exact()

    def run(self, graph: Graph, context: Context) -> None:
        chosen = _chosen(graph)
        for op in list(graph.ops):
            if op not in chosen or not context.allow():
                continue
            b = Builder(graph, op.loc.through(self.name), before=op)
            try:
                made = b.emit(op.kind, [_row(b, v, op) for v in op.operands], _attrs(op))
                whole = b.reshape(made, shape=op.result.type.sizes)
            except IRError:  # time cannot be followed through the sizes: leave the op as it is
                continue
            if whole.type == op.result.type:
                graph.replace(op.result, whole)
        graph.sweep()
        _cancel(graph)


def _chosen(graph: Graph) -> set[Op]:
    """The ops to wrap, found from the last to the first."""
    chosen: set[Op] = set()
    for op in reversed(list(graph.ops)):
        readers = op.results[0].users if op.results else ()
        if _fits(op) and (op.kind not in GRIDS or (readers and all(r in chosen for r in readers))):
            chosen.add(op)
    for op in graph.ops:
        if op.kind in WINDOWS:
            chosen.difference_update(_up_to_codes(op))
    return _with_products(chosen)


def _with_products(chosen: set[Op]) -> set[Op]:
    """Those in a run of ops with a linear layer: between two convolutions a row would only add reshapes."""
    kept: set[Op] = set()
    waiting = [op for op in chosen if op.kind == "linear"]
    while waiting:
        op = waiting.pop()
        if op in kept:
            continue
        kept.add(op)
        beside = [v.op for v in op.operands if v is not None and v.op is not None] + list(op.result.users)
        waiting += [other for other in beside if other in chosen]
    return kept


def _up_to_codes(op: Op) -> list[Op]:
    """The activation and the quantize that a runtime merges into the integer kernel of `op`."""
    found: list[Op] = []
    while len(op.result.users) == 1:
        (op,) = op.result.users
        found.append(op)
        if op.kind == "quantize":
            return found
        if definition(op.kind).family != "pointwise" or len(op.operands) != 1:
            break
    return []


def _fits(op: Op) -> bool:
    if len(op.results) != 1 or not (op.kind in (*ROWS, *GRIDS) or definition(op.kind).family == "pointwise"):
        return False
    shaped = [v for v in (*op.operands, op.result) if v is not None and v.type.rank == 3]
    if op.result.type.rank != 3 or any(v is not None and v.type.rank > 3 for v in op.operands):
        return False
    fixed = all(v.type.static and v.type.sizes[0] == 1 and v.type.shape[0].time is None for v in shaped)
    axis = op.attrs.get("axis", 1) % 3
    return fixed and axis > 0 and op.attrs.get("perm", (0,))[0] == 0


def _row(b: Builder, v: Value | None, op: Op) -> Value | None:
    if v is None or v.type.rank < 3:
        return v
    return b.reshape(v, shape=v.type.sizes[1:])


def _attrs(op: Op) -> dict:
    attrs = dict(op.attrs)
    if "axis" in attrs:
        attrs["axis"] = attrs["axis"] % 3 - 1
    if "perm" in attrs:
        attrs["perm"] = tuple(p - 1 for p in attrs["perm"][1:])
    return attrs


def _cancel(graph: Graph) -> None:
    """Read through pairs of reshapes, at once: otherwise every op would end up between two of them."""
    for op in list(graph.ops):
        if op.graph is None or op.kind != "reshape":
            continue
        source = op.operands[0]
        while source.op is not None and source.op.kind == "reshape":
            source = source.op.operands[0]
        if source.type == op.result.type:
            graph.replace(op.result, source)
    graph.sweep()

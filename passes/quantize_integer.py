"""From the QDQ form to integer arithmetic: ops on quantized operands that write quantized results."""

from __future__ import annotations

from ..ir.graph import Builder, Graph, Op, Value
from ..ir.registry import definition
from .base import Context, Lossy, Pass
from .quantize_select import words


class Integer(Pass):
    """quantize(op(dequantize(x), …)) is op on x itself with `out`, for the `kinds` that the target runs in integers.

    The result is that of the QDQ form in this IR; a target's kernel may round the other way at a tie, by one step.
    Operands that are not quantized (a bias) stay as they are; one that was computed in float refuses.
    """

    name, stage, equal = "integer", "compress", Lossy("snr", 30.0)
    kinds: str = "linear, conv, matmul, add, sub, mul, sigmoid, tanh, softmax, max_pool, avg_pool, mean, relu"

    def run(self, graph: Graph, context: Context) -> None:
        kinds = words(self.kinds)
        for op in graph.ops:
            if op.kind not in kinds or op.attrs.get("dynamic") or definition(op.kind).carries:
                continue
            operands = [_stored(v) for v in op.operands]
            computed = [(s, v) for s, v in zip(operands, op.operands) if v is not None and not v.known]
            if not computed or all(s is v for s, v in computed):
                continue
            if any(s is v for s, v in computed):
                context.remark("missed", self.name, f"{op.kind} computes in float: one operand is not quantized", op)
                continue
            reader = _quantizes(graph, op)
            if reader is None:
                context.remark("missed", self.name, f"{op.kind} computes in float: its result is not quantized", op)
                continue
            if not context.allow():
                return
            grid = (reader.attrs["dtype"], reader.attrs["scale"], reader.attrs["zero_point"])
            b = Builder(graph, op.loc.through(self.name), before=op)
            graph.replace(reader.result, b.emit(op.kind, operands, {**op.attrs, "out": grid}))
        graph.sweep()


def _stored(v: Value | None) -> Value | None:
    """What `v` is dequantized from, or `v`."""
    return v.op.operands[0] if v is not None and v.op is not None and v.op.kind == "dequantize" else v


def _quantizes(graph: Graph, op: Op) -> Op | None:
    """The quantize that alone reads `op`."""
    readers = list(op.results[0].users)
    returned = any(o is r for o in graph.outputs for r in op.results)
    one = len(op.results) == 1 and len(readers) == 1 and not returned
    return readers[0] if one and readers[0].kind == "quantize" else None

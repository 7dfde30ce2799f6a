"""From the QDQ form to integer arithmetic: ops on quantized operands that write quantized results."""

from __future__ import annotations

from ..ir.graph import Builder, Graph, Op, Value
from ..ir.registry import definition
from ..ir.types import LIMITS
from .base import Context, Lossy, Pass
from .quantize_select import words
from .quantize_weights import weights_of
from .rewrite import bare


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
            if op.kind not in kinds or not bare(op, "then") or definition(op.kind).carries or weights_of(op):
                continue
            operands = [_stored(v) for v in op.operands]
            computed = [(s, v) for s, v in zip(operands, op.operands) if v is not None and not v.known]
            reader = _quantizes(graph, op)
            if not computed or reader is None or any(s is v for s, v in computed):
                if any(s.kind == "weight" and s is not v for s, v in computed):
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
    plain = v is not None and v.op is not None and v.op.kind == "dequantize" and bare(v.op)
    return v.op.operands[0] if plain else v


def _quantizes(graph: Graph, op: Op) -> Op | None:
    """The quantize that alone reads `op`; a relu between them is done by a grid whose least code is 0."""
    reader = _only_reader(graph, op)
    if reader is not None and reader.kind == "relu" and bare(reader):
        behind = _only_reader(graph, reader)
        clips = behind is not None and behind.kind == "quantize"
        reader = behind if clips and behind.attrs["zero_point"] == LIMITS[behind.attrs["dtype"]][0] else None
    return reader if reader is not None and reader.kind == "quantize" else None


def _only_reader(graph: Graph, op: Op) -> Op | None:
    readers = list(op.results[0].users)
    returned = any(o is r for o in graph.outputs for r in op.results)
    return readers[0] if len(op.results) == 1 and len(readers) == 1 and not returned else None

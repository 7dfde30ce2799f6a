"""8-bit inputs and outputs, for devices that hand over and take integers."""

from __future__ import annotations

from ..ir.graph import Builder, Graph, Loc, Value
from ..ir.types import Quant, Tensor
from .base import Context, Lossy, Pass
from .calibrate import grid, observe
from .rewrite import bare


class IntegerPorts(Pass):
    """Float inputs and outputs become i8, on the grid that the graph uses there already, or on a calibrated one.

    The scales are in the types, and so in the manifest. What computes in float behind such an input (a front end)
    reads it back as real numbers.
    """

    name, stage, equal = "integer-ports", "compress", Lossy("snr", 20.0)

    def run(self, graph: Graph, context: Context) -> None:
        ports = [v for v in graph.inputs if v.type.is_float]
        results = [v for v in graph.outputs if v.type.is_float and v.kind == "result"]
        wanted = [v for v in (*ports, *results) if _own_grid(v) is None]
        seen = observe(graph, wanted, context) if wanted else {}
        for v in dict.fromkeys((*ports, *results)):
            if not context.allow():
                return
            chosen = grid(*seen[id(v)].range()) if id(v) in seen else None
            quant = _own_grid(v) or Quant(chosen.scale, chosen.zero_point)
            (_input if v.kind == "input" else _output)(graph, v, quant)


def _own_grid(v: Value) -> Quant | None:
    """The i8 grid that a value is on already: an input that is quantized at once, an output that was dequantized."""
    if v.kind == "input":
        types = {op.result.type for op in v.users if op.kind == "quantize" and op.attrs["dtype"] == "i8"}
        return next(iter(types)).quant if len(types) == 1 else None
    stored = v.op.operands[0].type if v.op.kind == "dequantize" and bare(v.op) else None
    return stored.quant if stored is not None and stored.dtype == "i8" else None


def _input(graph: Graph, old: Value, quant: Quant) -> None:
    type = Tensor("i8", old.type.shape, quant)
    new = Value("input", type, old.name)
    graph.inputs[graph.inputs.index(old)] = new
    builder = Builder(graph, Loc(old.name, passes=(IntegerPorts.name,)), before=next(iter(graph.ops), None))
    real = builder.dequantize(new)
    for op in list(old.users):
        if op.kind == "quantize" and op.result.type == type:
            graph.replace(op.result, new)
            graph.erase(op)
    graph.replace(old, real)
    graph.sweep()


def _output(graph: Graph, old: Value, quant: Quant) -> None:
    if old.op.kind == "dequantize" and bare(old.op) and old.op.operands[0].type.quant == quant:
        new = old.op.operands[0]
    else:
        builder = Builder(graph, old.op.loc.through(IntegerPorts.name))
        new = builder.quantize(old, scale=quant.scale, zero_point=quant.zero_point)
    graph.outputs = [new if v is old else v for v in graph.outputs]
    graph.sweep()

"""The element type of the real numbers that stand for codes of 8 bits: one for all values that are on one grid."""

from __future__ import annotations

from ...ir.graph import Graph, Value

SCALES = (2.0**-14, 2.0**7)  # of grids that float16 holds: no digits lost, and 255 steps stay below 65504


def real_types(graph: Graph) -> dict[int, str]:
    """f16 or f32 by the id of every quantized value.

    Values that an op moves, joins or keeps from call to call are of one type: f16 where everything that is rounded
    into them, and everything that is read out of them, is f16, on a grid that suits it.
    """
    parent: dict[int, int] = {}

    def root(v: Value) -> int:
        at = parent.setdefault(id(v), id(v))
        while parent[at] != at:
            at = parent[at]
        return at

    ends: list[tuple[Value, str]] = []
    for op in graph.ops:
        quantized = [v for v in (*op.operands, *op.results) if v is not None and v.type.quant is not None]
        if op.kind == "quantize":
            fits = SCALES[0] <= op.attrs["scale"] <= SCALES[1]
            ends.append((op.result, op.operands[0].type.dtype if fits else "f32"))
        elif op.kind == "dequantize":
            ends.append((op.operands[0], op.result.type.dtype))
            continue
        for v in quantized:
            parent[root(v)] = root(quantized[0])
    wide = {root(v) for v, dtype in ends if dtype != "f16"}
    half = {root(v) for v, _ in ends} - wide
    return {at: "f16" if _top(parent, at) in half else "f32" for at in parent}


def _top(parent: dict[int, int], at: int) -> int:
    while parent[at] != at:
        at = parent[at]
    return at

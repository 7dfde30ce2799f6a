"""Matrix products that read the same value become one product, and slices of its result."""

from __future__ import annotations

import numpy as np

from ..ir.graph import Builder, Graph, Op
from ..ir.types import Tensor
from .base import Close, Context, Pass
from .rewrite import bare, numbers


class MergeLinear(Pass):
    """linear(x, a) and linear(x, b) are slices of linear(x, [a; b]).

    `of`: only where x is the result of this kind of op (`""`: any). The real and imaginary parts of an STFT read one
    `frame`; once they are one product, framing and product are one convolution and the frames are never stored.
    """

    # The same sums; a wider product may order them differently.
    name, stage, equal = "merge-linear", "optimize", Close(rtol=1e-6)
    of: str = "frame"

    def run(self, graph: Graph, context: Context) -> None:
        for op in list(graph.ops):
            if op.graph is None or (self.of and op.kind != self.of):
                continue
            for value in op.results:
                readers = [u for u in value.users if u.kind == "linear" and _plain(u, value)]
                if len(readers) > 1 and context.allow():
                    _merge(graph, readers)


def _plain(op: Op, x) -> bool:
    x_, w, b = op.operands
    return x_ is x and numbers(w) and numbers(b) and bare(op)


def _merge(graph: Graph, readers: list[Op]) -> None:
    first = min(readers, key=list(graph.ops).index)
    builder = Builder(graph, first.loc.through(MergeLinear.name), before=first)
    x, w = first.operands[0], first.operands[1]
    sizes = [op.operands[1].type.sizes[0] for op in readers]
    name, dtype, inputs = f"{w.name}.merged", w.type.dtype, w.type.sizes[1]
    weights = [op.operands[1] for op in readers]
    merged = builder.derived(
        name, "rows", Tensor(dtype, (sum(sizes), inputs)), lambda *arrays: np.concatenate(arrays), *weights
    )
    bias = None
    if any(op.operands[2] is not None for op in readers):
        present = [op.operands[2] is not None for op in readers]

        def join(*arrays):
            rest = iter(arrays)
            parts = [next(rest) if p else np.zeros(n, arrays[0].dtype) for p, n in zip(present, sizes)]
            return np.concatenate(parts)

        sources = [op.operands[2] for op in readers if op.operands[2] is not None]
        bias = builder.derived(f"{name}.bias", f"rows{present}{sizes}", Tensor(dtype, (sum(sizes),)), join, *sources)
    y = builder.linear(x, merged, bias)
    start = 0
    for op, n in zip(readers, sizes):
        part = builder.slice(y, axis=y.type.rank - 1, start=start, stop=start + n)
        start += n
        graph.replace(op.result, part)
    for op in readers:
        graph.erase(op)

"""Loud features are made quieter before a matrix product, and its weights larger (SmoothQuant, Xiao et al. 2023).

A norm's weights take the factors: the graph computes what it computed, with ranges that 8 bits hold better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.graph import Builder, Graph, Op, Value
from .base import Close, Context, Pass
from .calibrate import channel_peaks
from .rewrite import bare, numbers

LEAST = 1e-5  # of a feature that the samples never show


class Smooth(Pass):
    """layer_norm → linear layers: feature j divided by s_j in the norm, multiplied in the weights.

    s_j = (largest |x_j|) ** `strength` / (largest |w_j|) ** (1 - `strength`), found on the samples; 0.5 shares the
    trouble evenly. Only where nothing but linear layers reads the norm.
    """

    # One rounding in every weight of the norm and the layers.
    name, stage, equal = "smooth", "compress", Close(rtol=1e-5)
    strength: float = 0.5

    def run(self, graph: Graph, context: Context) -> None:
        if not context.samples:
            return
        norms = [op for op in graph.ops if op.kind in ("layer_norm", "rms_norm") and self._smoothable(graph, op)]
        peaks = channel_peaks(graph, [op.result for op in norms], context)
        for op, loud in zip(norms, peaks):
            readers = [u for u in op.result.users]
            weights = np.max([np.abs(u.operands[1].array).max(0) for u in readers], 0)
            factors = np.maximum(loud, LEAST) ** self.strength / np.maximum(weights, LEAST) ** (1 - self.strength)
            factors = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
            if context.allow():
                _moved(graph, op, readers, factors)
                context.remark("applied", self.name, f"factors from {factors.min():.2g} to {factors.max():.2g}", op)

    @staticmethod
    def _smoothable(graph: Graph, op: Op) -> bool:
        x, users = op.result, op.result.users
        last = op.kind == "rms_norm" or op.attrs["axis"] % x.type.rank == x.type.rank - 1
        plain = all(u.kind == "linear" and u.operands[0] is x and bare(u) and numbers(u.operands[1]) for u in users)
        own = [v for v in op.operands[1:] if v is not None]
        known = bool(own) and all(numbers(v) and v.type.rank == 1 for v in own)
        return bool(users) and last and plain and known and bare(op) and all(o is not x for o in graph.outputs)


def _moved(graph: Graph, op: Op, readers: Sequence[Op], factors: np.ndarray) -> None:
    recipe = f"smooth {factors.tobytes().hex()}"
    b = Builder(graph, op.loc.through(Smooth.name), before=op)

    def scaled(v: Value | None, by: np.ndarray) -> Value | None:
        times = lambda array: array * by.astype(array.dtype)
        return v and b.derived(f"{v.name}.smooth", recipe + str(by.shape), v.type, times, v)

    for i, v in enumerate(op.operands[1:], 1):
        op.set_operand(i, scaled(v, 1 / factors))
    for u in readers:
        u.set_operand(1, scaled(u.operands[1], factors))

"""The few hidden units whose values are far larger than the others' get a grid of their own, apart from the rest.

A transformer's feed-forward layers have them (Dettmers et al. 2022): one grid for all would leave the others no levels.
"""

from __future__ import annotations

import numpy as np

from ..ir.graph import Builder, Graph, Op, Value
from ..ir.registry import definition
from ..ir.types import Tensor
from .base import Close, Context, Pass
from .calibrate import channel_peaks
from .quantize import SHALLOW
from .rewrite import bare, numbers

MOST = SHALLOW - 1  # these are summed in float
GAIN = 3.0  # below that, the finer grid is not worth another product
PRICE = 16  # setting 1 % of the units apart must make the range 16 % smaller


class SplitOutliers(Pass):
    """linear → pointwise → linear becomes two of the kind, one of the (at most 15) loudest units, and their sum.

    Which units they are is found on the samples; none, unless the others' range is `gain` times smaller.
    """

    # The same sums in another order.
    name, stage, equal = "split-outliers", "compress", Close(rtol=1e-5)
    gain: float = GAIN

    def run(self, graph: Graph, context: Context) -> None:
        found = [op for op in graph.ops if _splittable(graph, op)] if context.samples else []
        peaks = channel_peaks(graph, [op.operands[0] for op in found], context)
        for op, loud in zip(found, peaks):
            units = outliers(loud, self.gain)
            if units is not None and context.allow():
                rest = np.delete(np.arange(len(loud)), units)
                said = f"{len(units)} units reach {loud.max():.3g}, the others {loud[rest].max():.3g}"
                context.remark("applied", self.name, said, op)
                _split(graph, op, units, rest)


def outliers(loud: np.ndarray, gain: float = GAIN) -> np.ndarray | None:
    """The units to set apart: those after whose removal the range, weighed by their number, is the smallest."""
    order = np.argsort(-loud, kind="stable")
    most = min(MOST, len(loud) // PRICE)
    left = loud[order[: most + 1]]
    if most < 1 or not left[0] > 0:
        return None
    count = int(np.argmin(left * (1 + PRICE * np.arange(most + 1) / len(loud))))
    return np.sort(order[:count]) if count and left[0] >= gain * left[count] else None


def _chain(op: Op) -> tuple[Op, list[Op]] | None:
    """The linear layer in front of `op`, and the pointwise ops on one value between."""
    between: list[Op] = []
    x = op.operands[0]
    while x.op is not None and len(x.users) == 1 and bare(x.op):
        maker = x.op
        if maker.kind == "linear":
            return maker, between[::-1]
        values = [v for v in maker.operands if v is not None and v.kind != "const"]
        if definition(maker.kind).family != "pointwise" or len(values) != 1 or len(maker.results) != 1:
            return None
        between.append(maker)
        (x,) = values
    return None


def _splittable(graph: Graph, op: Op) -> bool:
    if op.kind != "linear" or not bare(op) or not numbers(op.operands[1]) or (found := _chain(op)) is None:
        return False
    first, between = found
    whole = [first, *between]
    return all(numbers(v) for v in first.operands[1:]) and not any(o is p.result for o in graph.outputs for p in whole)


def _split(graph: Graph, op: Op, units: np.ndarray, rest: np.ndarray) -> None:
    first, between = _chain(op)
    total = None
    for label, chosen in (("rest", rest), ("loud", units)):
        b = Builder(graph, first.loc.through(SplitOutliers.name), before=op)
        x = b.linear(first.operands[0], *(_taken(b, v, chosen, 0, label) for v in first.operands[1:]))
        for p in between:
            with b.at(p.loc.through(SplitOutliers.name)):
                x = b.emit(p.kind, [x if v is not None and v.kind != "const" else v for v in p.operands], p.attrs)
        b.loc = op.loc.through(SplitOutliers.name)
        bias = op.operands[2] if total is None else None
        y = b.linear(x, _taken(b, op.operands[1], chosen, 1, label), bias)
        total = y if total is None else b.add(total, y)
    graph.replace(op.result, total)
    graph.sweep()


def _taken(b: Builder, v: Value | None, chosen: np.ndarray, axis: int, label: str) -> Value | None:
    if v is None:
        return None
    sizes = tuple(len(chosen) if i == axis else n for i, n in enumerate(v.type.sizes))
    recipe = f"take {axis} {chosen.astype(np.int32).tobytes().hex()}"
    return b.derived(f"{v.name}.{label}", recipe, Tensor(v.type.dtype, sizes), lambda a: a.take(chosen, axis), v)

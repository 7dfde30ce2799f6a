"""A model that was captured for a fixed batch, beside a file for more streams than that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir.expr import symbols
from ..ir.graph import Graph
from ..ir.types import Tensor
from ..passes.free_batch import BATCH, free
from ..passes.streaming import rows
from .samples import Feeds

Reference = Callable[[Feeds], tuple[np.ndarray, ...]]


def fixed_batch(graph: Graph) -> int | None:
    """The batch that a captured graph is for; None where it varies."""
    return None if free(graph) else rows(graph)


def by_rows(reference: Reference, batch: int | None, whole: Graph) -> Reference:
    """`reference`, which takes `batch` rows, for feeds of any number of rows of `whole`, whose batch varies.

    The last call repeats a row where the rows do not come out even.
    """
    if batch is None or not free(whole):
        return reference
    inputs = {v.name: axis for v in whole.inputs if (axis := _axis(v.type)) is not None}
    outputs = [_axis(v.type) for v in whole.outputs]

    def run(feeds: Feeds) -> tuple[np.ndarray, ...]:
        count = min(feeds[name].shape[axis] for name, axis in inputs.items())
        parts = []
        for start in range(0, count, batch):
            at = np.minimum(np.arange(start, start + batch), count - 1)
            parts.append(reference({n: a.take(at, inputs[n]) if n in inputs else a for n, a in feeds.items()}))
        joined = lambda arrays, axis: arrays[0] if axis is None else np.concatenate(arrays, axis)
        made = [joined(arrays, axis) for arrays, axis in zip(zip(*parts), outputs)]  # outputs that were added come last
        return tuple(a if axis is None else a.take(range(count), axis) for a, axis in zip(made, outputs))

    return run


def _axis(type: Tensor) -> int | None:
    return next((i for i, s in enumerate(type.sizes) if BATCH in symbols(s)), None)

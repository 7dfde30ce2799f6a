"""The numbers behind a value of the step graph that is the same in every step."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Value
from ...ir.registry import definition


def known_array(v: Value) -> np.ndarray | None:
    """What `v` holds, where it is computed from weights and literals alone; else None."""
    if v.known:
        return v.array
    if v.op is None or definition(v.op.kind).effect or v.op.kind in ("read", "history"):
        return None
    arrays = []
    for operand in v.op.operands:
        array = None if operand is None else known_array(operand)
        if operand is not None and array is None:
            return None
        arrays.append(array)
    weights = v.op.graph.weights
    return definition(v.op.kind).run(v.op, arrays, {}, lambda name: weights[name].array)[v.index]

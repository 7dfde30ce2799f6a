"""Weights in 8 bits: which operands of which ops are weights, along which axis their scales run, and the codes."""

from __future__ import annotations

import numpy as np

from ..ir.graph import Builder, Op, Value
from ..ir.ops.quant import quantize_weight
from ..ir.types import Quant, Tensor

# kind: {index of a weight among the operands: the axis of its output channels (None: one scale for all)}
WEIGHTS: dict[str, dict[int, int | None]] = {
    "linear": {1: 0},
    "conv": {1: 0},
    "conv_transpose": {1: 1},
    "lstm": {3: 0, 4: 0, 6: 0},
    "gru": {2: 0, 3: 0},
    "rnn": {2: 0, 3: 0},
    "gather": {0: 0},
}


def weights_of(op: Op) -> list[tuple[int, Value, int | None]]:
    """(index, weight, axis of the scales) of every weight that `op` reads and that could be stored in 8 bits."""
    found = []
    for index, axis in WEIGHTS.get(op.kind, {}).items():
        w = op.operands[index] if index < len(op.operands) else None
        if w is not None and w.kind == "weight" and w.known and w.type.dtype == "f32":
            found.append((index, w, axis))
    return found


def elements(value: Value) -> int:
    """How many numbers a value of known sizes holds."""
    return int(np.prod(value.type.sizes))


def codes(b: Builder, w: Value, axis: int | None) -> Value:
    """`w` as symmetric i8 with float32 scales per element of `axis`; one weight read twice is stored once.

    Both arrays are computed when somebody looks at them.
    """
    limits = f"i8 axis={axis}"
    if axis is None:  # one literal scale has to be in the type, so it is computed now
        values, scale = quantize_weight(w.array, None)
        stored = Tensor("i8", w.type.shape, Quant(float(scale[0])))
        return b.derived(f"{w.name}.i8", limits, stored, lambda _: values, w)
    scale = b.derived(
        f"{w.name}.i8.scale",
        f"scale {limits}",
        Tensor("f32", (w.type.shape[axis],)),
        lambda a: quantize_weight(a, axis)[1],
        w,
    )
    stored = Tensor("i8", w.type.shape, Quant(scale.name, 0, axis))
    return b.derived(f"{w.name}.i8", limits, stored, lambda a: quantize_weight(a, axis)[0], w)


def rows(b: Builder, table: Value, index: Value) -> Value:
    """The rows of an embedding table kept in 8 bits: gather codes and scales, multiply.

    Only the rows looked up become floating point; a gathered tensor cannot carry a scale per row in its type.
    """
    n, *rest = table.type.sizes
    if len(rest) == 1:
        return _rows_of_a_matrix(b, table, index)
    flat = table.type.with_(shape=(n, int(np.prod(rest))))
    values = b.derived(
        f"{table.name}.rows.i8",
        "rows",
        Tensor("i8", table.type.shape),
        lambda a: _rows(a, flat)[0].reshape(a.shape),
        table,
    )
    shape = (n, *[1] * len(rest))
    scale = b.derived(
        f"{table.name}.rows.i8.scale",
        "rows scale",
        Tensor("f32", shape),
        lambda a: _rows(a, flat)[1].reshape(shape),
        table,
    )
    return b.mul(b.cast(b.gather(values, index, axis=0), dtype="f32"), b.gather(scale, index, axis=0))


def _rows_of_a_matrix(b: Builder, table: Value, index: Value) -> Value:
    """The same for a matrix, which may score what it looks up as well (tied embeddings): both have these codes."""
    stored = codes(b, table, 0)
    scales = b.graph.weight(stored.type.quant.scale)
    n = table.type.sizes[0]
    values = b.derived(f"{table.name}.rows.i8", "codes", Tensor("i8", table.type.shape), lambda a: a, stored)
    scale = b.derived(f"{table.name}.rows.i8.scale", "a column", Tensor("f32", (n, 1)), lambda a: a[:, None], scales)
    return b.mul(b.cast(b.gather(values, index, axis=0), dtype="f32"), b.gather(scale, index, axis=0))


def _rows(array: np.ndarray, flat: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return quantize_weight(array.reshape(flat.sizes), 0)

"""LSTM, GRU and plain recurrent layers: ONNX's ops, with PyTorch's gate order turned into ONNX's."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Value
from ...ir.types import DTYPES
from .lower import lower
from .ops_quant import weight_behind

# PyTorch's gates, in the order in which ONNX wants them.
ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}  # ifgo -> iofg, rzn -> zrn


def _gates(e, kind: str, w: Value):
    """w [gates * H, K] as ONNX's [1, gates * H, K] with its gates in ONNX's order; also for a bias [gates * H]."""
    order, rows = ORDER[kind], w.type.sizes[0]
    size = rows // len(order)
    at = np.concatenate([np.arange(g * size, (g + 1) * size) for g in order])
    if w.kind == "weight" and w.type.quant is None:
        return e.weight(w, kind, lambda a: a[at][None], (1, *w.type.sizes))
    stored = weight_behind(w)
    if stored is not None and stored.type.quant.axis == 0:  # codes and their scales in the new order
        codes = e.weight(stored, kind, lambda a: a[at][None], (1, *stored.type.sizes))
        scale = e.weight(e.graph.weight(stored.type.quant.scale), kind, lambda a: a[at], (rows,))
        real = e.node("DequantizeLinear", [codes, scale, np.zeros(rows, np.int8)], axis=1)
        return e.cast(real, "f32", w.type.dtype)
    return e.node("Unsqueeze", [e.node("Gather", [w, at], axis=0), np.array([0], np.int64)])


def _bias(e, kind: str, w: Value, b: Value | None, rb: Value | None = None):
    """ONNX's bias [1, 2 * gates * H]: that of the input, then that of the recurrence."""
    if b is None and rb is None:
        return None
    size = w.type.sizes[0]
    zero = np.zeros((1, size), DTYPES[w.type.dtype])
    return e.node("Concat", [zero if p is None else _gates(e, kind, p) for p in (b, rb)], axis=1)


def _run(e, node: str, x: Value, inputs, outputs: int, states, reverse: bool, **attrs):
    """One recurrent node around the transposes to time-major and back (onnxruntime has no other layout)."""
    zero = np.array([0], np.int64)
    states = [e.node("Unsqueeze", [s, zero]) for s in states]
    frames = e.node("Transpose", [x], perm=[1, 0, 2])
    made = e.node(
        node, [frames, *inputs, None, *states], outputs=outputs, direction="reverse" if reverse else "forward", **attrs
    )
    y = e.node("Transpose", [e.node("Squeeze", [made[0], np.array([1], np.int64)])], perm=[1, 0, 2])
    return (y, *(e.node("Squeeze", [s, zero]) for s in made[1:]))


@lower("lstm")
def _(e, x, h, c, w, r, b, proj, *, reverse):
    if proj is not None:
        return _projected(e, x, h, c, w, r, b, proj, reverse)
    inputs = [_gates(e, "lstm", w), _gates(e, "lstm", r), _bias(e, "lstm", w, b)]
    return _run(e, "LSTM", x, inputs, 3, [h, c], reverse, hidden_size=c.type.sizes[1])


@lower("gru")
def _(e, x, h, w, r, b, rb, *, reverse):
    inputs = [_gates(e, "gru", w), _gates(e, "gru", r), _bias(e, "gru", w, b, rb)]
    return _run(e, "GRU", x, inputs, 2, [h], reverse, hidden_size=r.type.sizes[1], linear_before_reset=1)


@lower("rnn")
def _(e, x, h, w, r, b, *, relu, reverse):
    inputs = [_gates(e, "rnn", w), _gates(e, "rnn", r), _bias(e, "rnn", w, b)]
    activation = ["Relu" if relu else "Tanh"]
    return _run(e, "RNN", x, inputs, 2, [h], reverse, hidden_size=r.type.sizes[1], activations=activation)


def _projected(e, x: Value, h: Value, c: Value, w: Value, r: Value, b: Value | None, proj: Value, reverse: bool):
    """An LSTM whose output is projected, which ONNX has no op for: the input's product, then a Scan over time."""
    from .ops_linear import transposed

    hidden, dtype = c.type.sizes[1], x.type.dtype
    gates = e.node("MatMul", [x, transposed(e, w)])
    gates = gates if b is None else e.node("Add", [gates, b])
    r_t, proj_t = transposed(e, r), transposed(e, proj)
    batch = x.type.sizes[0]

    def step(h, c, frame):
        total = e.node("Add", [frame, e.node("MatMul", [h, r_t])])
        i, f, g, o = e.node("Split", [total, np.full(4, hidden, np.int64)], outputs=4, axis=1)
        kept = e.node("Mul", [e.node("Sigmoid", [f]), c])
        c = e.node("Add", [kept, e.node("Mul", [e.node("Sigmoid", [i]), e.node("Tanh", [g])])])
        out = e.node("Mul", [e.node("Sigmoid", [o]), e.node("Tanh", [c])])
        h = e.node("MatMul", [out, proj_t])
        return [h, c, e.node("Identity", [h])]

    ports = [("h", dtype, h.type.sizes), ("c", dtype, c.type.sizes), ("frame", dtype, (batch, 4 * hidden))]
    body = e.body(ports, step)
    direction = [int(reverse)]
    h, c, y = e.node(
        "Scan", [h, c, gates], outputs=3, body=body, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1],
        scan_input_directions=direction, scan_output_directions=direction,
    )  # fmt: skip
    return y, h, c

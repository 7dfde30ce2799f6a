"""Let backward recurrences over time start a little ahead of each chunk, or look at nothing ahead."""

from __future__ import annotations

import numpy as np

from ..ir.errors import UnsupportedError, UsageError
from ..ir.expr import ceildiv
from ..ir.graph import Builder, Graph, Op, Value
from ..ir.types import Tensor
from .base import Context, Pass
from .durations import MEASURED, frames_of
from .rewrite import numbers

MODES = ("latency-controlled", "forward")
KINDS = ("lstm", "gru", "rnn")


class Bidirectional(Pass):
    """Bound what a backward lstm, gru or rnn sees of the future.

    "latency-controlled": chunk c of `chunk` ticks of the clock is computed backwards from its initial carry at the last
    of the `right` ticks that follow the chunk, or at the end of the utterance if that comes first (Zhang et al. 2016,
    LC-BLSTM). Windows of a chunk and its right context become a batch, with time as its slowest axis. The frames
    beyond the end, which the last windows are filled up with, leave a carry of zeros as it is: one more feature says
    that a frame is one, and its weights cancel the biases. A carry that starts from anything else sees them as frames
    of zeros.

    "forward": a frame's backward output is computed from that frame alone (chunk 1, nothing ahead), without recurrence.

    A recurrence whose last carry is read is left alone. Raises `UnsupportedError` SC212 where a duration is not a whole
    number of frames, or (for chunks) the batch is not known.
    """

    name, stage, equal = "bidirectional", "streaming", MEASURED
    mode: str = "latency-controlled"
    chunk: int = 16
    right: int = 0

    def run(self, graph: Graph, context: Context) -> None:
        if self.mode not in MODES or self.chunk < 1 or self.right < 0:
            raise UsageError("SC020", f"{self}: mode is one of {', '.join(MODES)}, chunk at least 1, right at least 0")
        for op in list(graph.ops):
            if op.graph is not None and op.kind == "flip":
                _unflip(graph, op, context)
        for op in list(graph.ops):
            if op.kind not in KINDS or not op.attrs["reverse"] or op.operands[0].type.shape[1].time is None:
                continue
            returned = {id(v) for v in graph.outputs}
            if any(r.users or id(r) in returned for r in op.results[1:]):
                context.remark("missed", self.name, f"the carry that {op.kind} ends with is read", op)
                continue
            if any(v is not None and v.type.quant is not None for v in op.operands):
                context.remark("missed", self.name, f"{op.kind} is quantized", op)
                continue
            g = Builder(graph, op.loc.through(self.name), before=op)
            chunk, right = self._durations(op)
            if not context.allow():
                return
            if self.mode == "forward":
                y, said = ALONE[op.kind](g, op), "from that frame alone"
            else:
                y, said = self._windowed(g, op, chunk, right, context), f"of {chunk} frames and {right} ahead"
            graph.replace(op.results[0], y)
            context.remark("applied", self.name, f"backward {op.kind} {said}", op)
            graph.erase(op)

    def _durations(self, op: Op) -> tuple[int, int]:
        time = op.operands[0].type.shape[1].time
        if self.mode == "forward":
            return 1, 0
        chunk = frames_of(self.chunk, time, "a chunk", op)
        return chunk, frames_of(self.right, time, "right context", op, 0)

    def _windowed(self, g: Builder, op: Op, chunk: int, right: int, context: Context) -> Value:
        x, carry, weights = _parts(op)
        batch, frames, _ = x.type.sizes
        if not isinstance(batch, int):
            raise UnsupportedError(
                "SC212",
                f"chunks of a backward {op.kind} are a batch of their own: that of {x.type} has to be known",
                where=[str(op.loc)],
                hints=["one stream, without --batch", "--bidirectional forward"],
            )
        count = ceildiv(frames, chunk)
        more = ((0, 0), (0, count * chunk + right - frames), (0, 0))
        held = _holding(g, op, carry, weights)
        if held is None:
            context.remark("note", self.name, f"{op.kind} sees frames of zeros beyond the end", op)
        filled = g.pad(x, pads=more)
        if held:
            first = g.slice(x, axis=2, start=0, stop=1)
            real = g.cast(g.less(first, first), dtype=x.type.dtype)  # 0 whatever the frame holds
            filled = g.concat(filled, g.pad(real, pads=more, value=1.0), axis=2)
            weights = (held, *weights[1:])
        seen = g.frame(g.transpose(filled, perm=(0, 2, 1)), size=chunk + right, hop=chunk)
        seen = g.transpose(seen, perm=(2, 0, 3, 1))  # [count, batch, chunk + right, features]
        seen = g.reshape(seen, shape=(count * batch, chunk + right, seen.type.sizes[3]))
        starts = []
        for v in carry:
            rows, size = v.type.sizes
            start = g.expand(g.reshape(v, shape=(1, rows, size)), shape=(count, batch, size))
            starts.append(g.reshape(start, shape=(count * batch, size)))
        y = g.emit(op.kind, (seen, *starts, *weights), op.attrs)[0]
        size = y.type.sizes[2]
        y = g.slice(y, axis=1, start=0, stop=chunk)
        y = g.transpose(g.reshape(y, shape=(count, batch, chunk, size)), perm=(1, 0, 2, 3))
        y = g.reshape(y, shape=(batch, count * chunk, size))
        return g.slice(y, axis=1, start=0, stop=frames)


def _parts(op: Op) -> tuple[Value, tuple[Value, ...], tuple[Value | None, ...]]:
    """x, the initial carry, and w, r and biases."""
    carries = 2 if op.kind == "lstm" else 1
    return op.operands[0], op.operands[1 : 1 + carries], op.operands[1 + carries :]


def _zero(v: Value) -> bool:
    """Whether `v` is known to be 0 everywhere, as the carry is that a framework fills in."""
    if v.op is not None and v.op.kind in ("expand", "reshape", "slice", "transpose"):
        return _zero(v.op.operands[0])
    return v.known and not v.array.any()


def _holding(g: Builder, op: Op, carry, weights) -> Value | bool | None:
    """w with a column that makes a carry of zeros stay: False where it does so as it is, None where there is none."""
    w, _, *biases = weights
    biases = [b for b in biases[: 2 if op.kind == "gru" else 1] if b is not None]
    if not all(map(_zero, carry)) or w.kind != "weight" or not numbers(w) or not all(map(numbers, biases)):
        return None
    if not biases:
        return False
    has_b = weights[2] is not None
    type = Tensor(w.type.dtype, (w.type.sizes[0], w.type.sizes[1] + 1))

    def widened(w, *biases):
        column = HOLDS[op.kind](w.shape[0], *(b.astype(np.float64) for b in biases), first=has_b)
        return np.concatenate([w, column[:, None].astype(w.dtype)], 1)

    return g.derived(f"{w.name}.held", f"{op.kind}.held.{has_b}", type, widened, w, *biases)


def _hold_lstm(rows: int, b: np.ndarray, first: bool) -> np.ndarray:
    """The cell gate is tanh(0): nothing is added to a cell of zeros."""
    column = np.zeros(rows)
    column[rows // 2 : 3 * rows // 4] = -b[rows // 2 : 3 * rows // 4]
    return column


def _hold_gru(rows: int, *biases: np.ndarray, first: bool) -> np.ndarray:
    """The new state is tanh(0)."""
    n = rows // 3
    zero = np.zeros(rows)
    b, rb = biases if len(biases) == 2 else ((biases[0], zero) if first else (zero, biases[0]))
    reset = 1 / (1 + np.exp(-(b[:n] + rb[:n])))
    return np.concatenate([np.zeros(2 * n), -(b[2 * n :] + reset * rb[2 * n :])])


def _hold_rnn(rows: int, b: np.ndarray, first: bool) -> np.ndarray:
    """The new state is tanh(0) or relu(0)."""
    return -b


HOLDS = {"lstm": _hold_lstm, "gru": _hold_gru, "rnn": _hold_rnn}


# -- one frame alone -----------------------------------------------------------------------------------------------
def _gates(g: Builder, v: Value, count: int) -> list[Value]:
    size = v.type.sizes[2] // count
    return [g.slice(v, axis=2, start=i * size, stop=(i + 1) * size) for i in range(count)]


def _beside(g: Builder, v: Value) -> Value:
    """[batch, size] beside [batch, time, size]."""
    return g.reshape(v, shape=(v.type.sizes[0], 1, v.type.sizes[1]))


def _recurrent(g: Builder, y: Value, h: Value, r: Value) -> Value:
    """y plus what the initial state contributes."""
    return y if _zero(h) else g.add(y, _beside(g, g.linear(h, r)))


def _lstm_alone(g: Builder, op: Op) -> Value:
    x, h, c, w, r, b, projection = op.operands
    i, f, cell, o = _gates(g, _recurrent(g, g.linear(x, w, b), h, r), 4)
    new = g.mul(g.sigmoid(i), g.tanh(cell))
    if not _zero(c):
        new = g.add(g.mul(g.sigmoid(f), _beside(g, c)), new)
    y = g.mul(g.sigmoid(o), g.tanh(new))
    return y if projection is None else g.linear(y, projection)


def _gru_alone(g: Builder, op: Op) -> Value:
    x, h, w, r, b, rb = op.operands
    reset, update, new = _gates(g, g.linear(x, w, b), 3)
    if not _zero(h) or rb is not None:
        by_reset, by_update, by_new = _gates(g, _beside(g, g.linear(h, r, rb)), 3)
        reset, update = g.add(reset, by_reset), g.add(update, by_update)
        new = g.add(new, g.mul(g.sigmoid(reset), by_new))
    z = g.sigmoid(update)
    y = g.mul(g.sub(g.const(1.0, x.type.dtype), z), g.tanh(new))
    return y if _zero(h) else g.add(y, g.mul(z, _beside(g, h)))


def _rnn_alone(g: Builder, op: Op) -> Value:
    x, h, w, r, b = op.operands
    y = _recurrent(g, g.linear(x, w, b), h, r)
    return g.relu(y) if op.attrs["relu"] else g.tanh(y)


ALONE = {"lstm": _lstm_alone, "gru": _gru_alone, "rnn": _rnn_alone}


def _unflip(graph: Graph, back: Op, context: Context) -> None:
    """flip → recurrence → flip along time is the recurrence the other way."""
    y = back.operands[0]
    op = y.op
    if op is None or op.kind not in KINDS or y is not op.results[0] or len(y.users) != 1 or back.attrs["axis"] != 1:
        return
    there = op.operands[0].op
    if there is None or there.kind != "flip" or there.attrs["axis"] != 1 or any(v is y for v in graph.outputs):
        return
    if op.operands[0].type.shape[1].time is None or not context.allow():
        return
    g = Builder(graph, op.loc.through(Bidirectional.name), before=op)
    attrs = {**op.attrs, "reverse": not op.attrs["reverse"]}
    made = g.emit(op.kind, (there.operands[0], *op.operands[1:]), attrs)
    for old, new in zip((back.result, *op.results[1:]), made):
        graph.replace(old, new)
    graph.erase(back)
    graph.erase(op)
    if not there.result.users and not any(v is there.result for v in graph.outputs):
        graph.erase(there)

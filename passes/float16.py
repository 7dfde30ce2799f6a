"""Half precision: the whole graph in float16 but what needs float32's range, or float16 weights alone."""

from __future__ import annotations

import numpy as np

from ..ir.graph import Builder, Graph, Op, Value
from ..ir.registry import definition
from .base import Context, Lossy, Pass
from .calibrate import observe
from .quantize_select import front_end, words
from .quantize_weights import elements, weights_of
from .rewrite import bare

LARGEST = 65504.0  # of float16
SMALLEST = 2.0**-14  # below it digits are lost one by one, down to 6e-8
LEAST = 2.0**-13  # numbers that stay below it have fewer than ten of their eleven bits
HIDDEN = -1e6  # numbers below it are masks
MASK = -32768.0  # hides a score as well as any, and leaves room to add to it


class Float16(Pass):
    """Compute in float16; inputs, outputs and states stay float32.

    In float32 stay: the kinds in `keep`, whose sums, exponentials or divisions leave float16's range or digits (their
    large weights are stored in float16), what computes features, and what is computed from positions alone (float16
    counts to 2048). Masks beyond the range become -32768; an op with another weight beyond it, or with a number too
    small for it, stays in float32 and says so; so does one whose values on a sample are too large or small.
    """

    # Eleven bits a number; errors add up over layers.
    name, stage, equal = "float16", "compress", Lossy("snr", 40.0)
    keep: str = (
        "softmax, log_softmax, layer_norm, rms_norm, group_norm, batch_norm, exp, log, sqrt, rsqrt, reciprocal, pow, "
        "div, sum, mean, cumsum, sin, cos, softplus, erf, frame, overlap_add, lstm, gru, rnn"
    )

    def run(self, graph: Graph, context: Context) -> None:
        half, features, positions = _Half(graph), front_end(graph), _positions(graph)
        ranges = _ranges(graph, context)
        for op in list(graph.ops):
            floats = [v for v in (*op.operands, *op.results) if v is not None and v.type.dtype == "f32"]
            kept = op.kind in words(self.keep) or op in features or op in positions or _bound(op)
            why = _unfit(op) or _outside(op, ranges) if floats and not kept else None
            if why is not None:
                context.remark("missed", self.name, f"{op.kind} stays in f32: {why}", op)
            if floats and not kept and why is None and context.allow():
                half.rebuild(op)
            else:
                for i, v in enumerate(op.operands):
                    if v is not None:
                        op.set_operand(i, half.as_type(v, v.type.dtype, op))
                if why is None and op not in features:
                    _store(graph, op, context)
        graph.outputs = [half.as_type(v, v.type.dtype, None) for v in graph.outputs]
        graph.sweep()


def _bound(op: Op) -> bool:
    """Whether the element type of `op` is not to choose: states, casts between floats, arithmetic in integers."""
    if definition(op.kind).effect or op.kind == "read" or not bare(op, "then"):
        return True
    quantized = any(v is not None and v.type.quant is not None for v in op.operands)
    return (op.kind == "cast" and op.operands[0].type.is_float) or (quantized and op.kind != "dequantize")


class _Half:
    """The float16 forms of values made so far, and casts between both forms, one each."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.current: dict[Value, Value] = {}
        self._casts: dict[tuple[Value, str], Value] = {}

    def as_type(self, v: Value, dtype: str, reader: Op | None) -> Value:
        """The present form of `v` as `dtype`."""
        now = self.current.get(v, v)
        if now.type.dtype == dtype or now.type.dtype not in ("f16", "f32"):
            return now
        if (now, dtype) not in self._casts:
            behind = now.op.next if now.op is not None else next(iter(self.graph.ops))
            loc = (now.op or reader or behind).loc.through(Float16.name)
            self._casts[now, dtype] = Builder(self.graph, loc, before=behind).cast(now, dtype=dtype)
        return self._casts[now, dtype]

    def rebuild(self, op: Op) -> None:
        """`op` again, on float16."""
        b = Builder(self.graph, op.loc.through(Float16.name), before=op)
        operands = [self._operand(b, v, op) for v in op.operands]
        attrs = dict(op.attrs)
        if attrs.get("dtype") == "f32":
            attrs["dtype"] = "f16"
        if op.kind == "pad" and attrs["value"] < -LARGEST and np.isfinite(attrs["value"]):
            attrs["value"] = MASK
        made = b.emit(op.kind, operands, attrs)
        self.current.update(zip(op.results, made if isinstance(made, tuple) else (made,)))

    def _operand(self, b: Builder, v: Value | None, op: Op) -> Value | None:
        if v is None or v.type.dtype != "f32":
            return v if v is None else self.current.get(v, v)
        if v.kind == "const":
            return b.const(_narrow(v.array).item(), "f16")
        if v.kind == "weight":
            return stored(b, v)
        return self.as_type(v, "f16", op)


def _narrow(array: np.ndarray) -> np.ndarray:
    """float16 numbers, with masks that stay finite."""
    masked = np.isfinite(array) & (array < -LARGEST)
    return np.where(masked, np.float32(MASK), array).astype(np.float16)


def stored(b: Builder, w: Value) -> Value:
    """A float32 weight as float16."""
    return b.derived(f"{w.name}.f16", "f16", w.type.with_(dtype="f16"), _narrow, w)


def beyond(w: Value) -> str | None:
    """Why float16 cannot hold a known value; None if it can. A mask (only large negative numbers) can."""
    array = w.array
    if not array.size:
        return None
    finite = array[np.isfinite(array)]
    if finite.size and finite.max() > LARGEST:
        return f"{_name(w)} reaches {finite.max():.3g}, beyond {LARGEST:g}"
    large = finite[finite < -LARGEST]
    if large.size and large.max() > HIDDEN and not np.all(finite[finite >= -LARGEST] == 0):
        return f"{_name(w)} reaches {finite.min():.3g}, beyond {-LARGEST:g}"
    if array.size == 1 and finite.size and 0 < abs(finite[0]) < SMALLEST:
        return f"{finite[0]:.3g} is 0 in float16, or nearly"
    if array.size > 1 and finite.size and 0 < np.abs(finite).max() < LEAST:
        return f"{_name(w)} stays below {np.abs(finite).max():.3g}, where float16 loses digits"
    return None


def _name(w: Value) -> str:
    return f"weight ${w.name}" if w.kind == "weight" else "a constant"


def _unfit(op: Op) -> str | None:
    known = [v for v in op.operands if v is not None and v.known and v.type.dtype == "f32"]
    return next((why for v in known if (why := beyond(v)) is not None), None)


def _ranges(graph: Graph, context: Context) -> dict[int, float]:
    """The largest magnitude of every float32 result on a sample, by id; empty where there is none."""
    samples = (context.samples or context.trials)[:1]
    if not samples:
        return {}
    values = [r for op in graph.ops for r in op.results if r.type.dtype == "f32"]
    seen = observe(graph, [*values, *(v for v in graph.inputs if v.type.dtype == "f32")], context, samples)
    masked = lambda h: h.low < HIDDEN  # a mask is made finite; it says nothing about the scores
    return {i: max(0 if masked(h) else -h.low, h.high) for i, h in seen.items() if h.low <= h.high}


def _outside(op: Op, ranges: dict[int, float]) -> str | None:
    """Why the values that `op` reads and writes do not suit float16, from their largest magnitude."""
    for v in (*op.operands, *op.results):
        largest = ranges.get(id(v)) if v is not None else None
        if largest is not None and largest > LARGEST / 2:
            return f"its values reach {largest:.3g}"
        if largest is not None and 0 < largest < LEAST:
            return f"its values stay below {largest:.3g}, where float16 loses digits"
    return None


def _positions(graph: Graph) -> set[Op]:
    """Ops whose values follow from sizes, literals and integers alone."""
    found: set[Op] = set()
    for op in graph.ops:
        moving = [v for v in op.operands if v is not None and not v.known]
        whole = not moving or all(v.op in found or v.type.dtype in ("i32", "i64") for v in moving)
        if whole and op.kind not in ("gather", "dequantize"):
            found.add(op)
    return found


class Float16Weights(Pass):
    """Keep weights in float16 and compute in float32: files of half the size where kernels widen weights at start."""

    name, stage, equal = "float16-weights", "compress", Lossy("snr", 50.0)
    least: int = 512

    def run(self, graph: Graph, context: Context) -> None:
        features = front_end(graph)  # a DFT of eleven bits leaks into bands that are 60 dB softer
        for op in graph.ops:
            if op not in features:
                _store(graph, op, context, self.name, self.least)


def _store(graph: Graph, op: Op, context: Context, name: str = Float16.name, least: int = 512) -> None:
    """Keep the weights of `op` in float16; it computes in float32. One weight is widened at one place."""
    for index, w, _ in weights_of(op):
        if elements(w) < least:
            continue
        why = beyond(w)
        if why is not None:
            context.remark("missed", name, f"{op.kind} keeps f32 weights: {why}", op)
        elif context.allow():
            small = stored(Builder(graph, op.loc), w)
            wide = next((u.result for u in small.users if u.kind == "cast"), None)
            if wide is None or not _precedes(wide.op, op):
                wide = Builder(graph, op.loc.through(name), before=op).cast(small, dtype="f32")
            op.set_operand(index, wide)


def _precedes(first: Op, second: Op) -> bool:
    """Whether `first` comes before `second` in their graph."""
    at = first
    while at is not None and at is not second:
        at = at.next
    return at is second

"""Statistics over the whole utterance become fixed, running, or those of a window, so that a stream can have them."""

from __future__ import annotations

import numpy as np

from ..ir.errors import UnsupportedError, UsageError
from ..ir.graph import Builder, Graph, Op, Value
from ..ir.registry import definition
from ..ir.types import DTYPES
from .base import Context, Pass
from .calibrate import returning
from .durations import MEASURED, frames_of
from .rewrite import bare, is_number
from .spread import Region, Spread, Stuck

MODES = ("fixed", "cumulative", "window")
REDUCTIONS = ("mean", "sum", "max", "min")
LEAST = 1e-10  # a variance: that of the first frame alone is 0, and something is divided by its root


class Normalise(Pass):
    """Replace every sum, mean, maximum and variance over time by one that needs no future.

    "fixed": its average over the calibration samples. "cumulative": that of the frames so far. "window": that of the
    last `frames` ticks of the clock, or of all so far where there are fewer. It is made for norms over time (per
    utterance mean and variance, group and instance norm), which are spelled out first, and for squeeze and excitation
    (Hu et al. 2018; streaming: Rybakov et al. 2020); what is computed from the statistic is then computed a frame.

    A running variance of frames with means m[s] and variances v[s] (over other axes than time; else 0) is
    1/t Σ v[s] + s / max(s - 1, 1) (m[s] - M[s])², where M[s] is the running mean: no term is negative and nothing
    cancels (Welford 1962). One of a window is the mean over it of v[s] + (m[s] - M[s])², where M[s] is the mean of the
    window that ends at s: each frame's deviation is from the mean that its own output has, so the result differs from
    the variance of the window's frames about their common mean, E[m²] - E[m]², which cancels in float32 where the mean
    is larger than the deviation. An output then depends on the last 2 `frames` - 1. Neither goes below 1e-10; a
    divisor n - 1 not below 1.

    `outputs`: an output without time that depends on a statistic becomes one result a frame; without it that
    statistic is left alone. So is one from which something other than frame-wise ops is computed, and with "fixed" one
    that reaches an output without meeting the stream again: that output would be a constant. Attention is not touched.
    Raises `UnsupportedError` SC212 for "fixed" without samples.
    """

    name, stage, equal = "normalise", "streaming", MEASURED
    mode: str = "cumulative"
    frames: int = 300
    outputs: bool = False

    def run(self, graph: Graph, context: Context) -> None:
        if self.mode not in MODES or self.frames < 1:
            raise UsageError("SC020", f"{self}: mode is one of {', '.join(MODES)}, frames at least 1")
        for op in graph.ops:
            if op.kind in SPELLED and _over_time(op, _normalised(op)) is not None and context.allow():
                g = Builder(graph, op.loc.through(self.name), before=op)
                graph.replace(op.result, SPELLED[op.kind](g, op))
                graph.erase(op)
        found = [op for op in graph.ops if op.kind in REDUCTIONS and _over_time(op, op.attrs["axes"]) is not None]
        if self.mode == "fixed":
            self._fix(graph, found, context)
            return
        deviations = {op: _deviation(op) for op in found}
        # A variance goes first: it is recognised by the mean that it is taken from.
        for op in sorted(found, key=lambda op: deviations[op] is None):
            if op.graph is not None:
                self._spread(graph, op, deviations[op], context)

    # -- fixed -----------------------------------------------------------------------------------------------------
    def _fix(self, graph: Graph, found: list[Op], context: Context) -> None:
        values = [_per_frame(op).result for op in found]
        kept = _answers(graph, [v for v in values if v.type.static])
        for op, v in zip(found, values):
            if id(v) in kept:
                why = "an output follows from it alone and would be a constant"
                context.remark("missed", self.name, f"{op.kind} over time stays: {why}", op)
                continue
            if not context.samples:
                raise UnsupportedError(
                    "SC212",
                    f"{op.kind} over time cannot be fixed without samples",
                    where=[str(op.loc)],
                    hints=["--calibrate DIR", "--normalise cumulative"],
                )
            if not v.type.static:
                context.remark("missed", self.name, f"{op.kind} over time has other dimensions that vary: {v}", op)
        values = list({id(v): v for v in values if v.type.static and id(v) not in kept}.values())
        totals = [np.zeros(v.type.sizes, np.float64) for v in values]
        copy = returning(graph, values) if values else None
        for feeds in context.samples if values else ():
            for total, array in zip(totals, context.run(copy, feeds), strict=True):
                total += array.reshape(-1, *total.shape).mean(0)  # of several calls, where it is a sample of such
        for v, total in zip(values, totals):
            if not context.allow():
                return
            array = (total / len(context.samples)).astype(DTYPES[v.type.dtype])
            constant = graph.weight(f"{v.op.loc.path or graph.name}.{v.op.kind}", array)
            context.remark("applied", self.name, f"{v.op.kind} over time is fixed", v.op)
            graph.replace(v, constant)
        graph.sweep()

    # -- running ---------------------------------------------------------------------------------------------------
    def _spread(self, graph: Graph, op: Op, deviation: Value | None, context: Context) -> None:
        x, axes = op.operands[0], op.attrs["axes"]
        at = _over_time(op, axes)
        time = x.type.shape[at]
        region = Region(graph, self.name, time, lambda g: self._count(g, op, time), self.outputs)
        try:
            g = region.builder(op)
            if deviation is not None:
                value = self._variance(g, op, deviation, axes, at)
            else:
                value = self._running(g, op, op.kind, _within(g, op.kind, x, axes, at), at)
            spread = Spread(value, at)
            if not op.attrs["keepdims"]:
                perm = (at, *(i for i in range(x.type.rank) if i != at))
                kept = [s for i, s in enumerate(x.type.sizes) if i not in axes]
                spread = Spread(g.reshape(g.transpose(value, perm=perm), shape=(time.size, *kept)), None)
            region.grow(op.result, spread)
        except Stuck as stuck:
            region.drop()
            context.remark("missed", self.name, f"{op.kind} over time stays: {stuck}", op)
            return
        if not context.allow():
            region.drop()
            return
        region.apply()
        said = "so far" if self.mode == "cumulative" else f"of the last {self.frames} ticks"
        context.remark("applied", self.name, f"{op.kind} over time is that {said}", op)
        graph.sweep()

    def _window(self, op: Op, x: Value, at: int) -> int:
        return frames_of(self.frames, x.type.shape[at].time, "a window", op)

    def _count(self, g: Builder, op: Op, time) -> Value:
        """How many frames the statistic of each frame is made of: i64[T]."""
        count = g.add(g.iota(size=time.size), g.const(1, "i64"))
        if self.mode == "cumulative":
            return count
        return g.minimum(count, g.const(frames_of(self.frames, time.time, "a window", op), "i64"))

    def _counts(self, g: Builder, op: Op, x: Value, at: int) -> Value:
        """The same as reals beside x."""
        d = x.type.shape[at]
        count = g.cast(self._count(g, op, d), dtype=x.type.dtype)
        return g.reshape(count, shape=(d.size, *[1] * (x.type.rank - at - 1)))

    def _running(self, g: Builder, op: Op, kind: str, x: Value, at: int) -> Value:
        """The statistic of x over time so far, or of the window that ends there; x's shape."""
        if kind == "min":
            return g.neg(self._running(g, op, "max", g.neg(x), at))
        if self.mode == "cumulative":
            if kind == "max":
                return g.cummax(x, axis=at)
            total = g.cumsum(x, axis=at)
            return total if kind == "sum" else g.div(total, self._counts(g, op, x, at))
        window = self._window(op, x, at)
        if kind == "max":
            return _pooled(g, "max_pool", x, at, window, dilation=(1,))
        total = _pooled(g, "avg_pool", x, at, window, count_pad=True)
        total = g.mul(total, g.const(window, x.type.dtype))
        if kind == "sum":
            return total
        count = self._counts(g, op, x, at)  # the first frame is its own mean, exactly: it is divided by almost 0
        return g.where(g.less(count, g.const(2.0, x.type.dtype)), x, g.div(total, count))

    def _variance(self, g: Builder, op: Op, x: Value, axes, at: int) -> Value:
        """What `op` is of the squared deviations of x from its mean: their mean, or (count times that) their sum."""
        own = _within(g, "mean", x, axes, at)
        inner = None
        if len(axes) > 1:
            off = g.sub(x, own)
            inner = _within(g, "mean", g.mul(off, off), axes, at)
        off = g.sub(own, self._running(g, op, "mean", own, at))
        part = g.mul(off, off)
        if self.mode == "cumulative":
            count, one = self._counts(g, op, own, at), g.const(1.0, x.type.dtype)
            part = g.mul(part, g.div(count, g.maximum(g.sub(count, one), one)))
        variance = self._running(g, op, "mean", part if inner is None else g.add(part, inner), at)
        variance = g.maximum(variance, g.const(LEAST, x.type.dtype))
        if op.kind == "mean":
            return variance
        others = int(np.prod([x.type.sizes[a] for a in axes if a != at]))
        count = self._counts(g, op, variance, at)
        return g.mul(variance, g.mul(count, g.const(float(others), x.type.dtype)))


def _over_time(op: Op, axes) -> int | None:
    """The axis of time that `op` collects over, if it is the only time that its operand has."""
    x = op.operands[0].type
    times = [i for i, d in enumerate(x.shape) if d.time is not None]
    return times[0] if len(times) == 1 and times[0] in axes and bare(op) and x.quant is None else None


def _within(g: Builder, kind: str, x: Value, axes, at: int) -> Value:
    """The statistic of each frame alone, over the axes that are not time."""
    others = tuple(a for a in axes if a != at)
    return g.emit(kind, (x,), {"axes": others, "keepdims": True}) if others else x


def _pooled(g: Builder, kind: str, x: Value, at: int, window: int, **more) -> Value:
    """A pool over the last `window` frames of any tensor, channels first: not every target has the other layout."""
    attrs = {"kernel": (window,), "stride": (1,), "pad": ((window - 1, 0),), **more}
    rank, sizes = x.type.rank, x.type.sizes
    if rank == 3 and at == 2:
        return g.emit(kind, (x,), attrs)
    order = [i for i in range(rank) if i != at]
    back = tuple((*order, at).index(i) for i in range(rank))
    last = g.transpose(x, perm=(*order, at))
    if rank == 3 and at == 1:
        return g.transpose(g.emit(kind, (last,), attrs), perm=back)
    first, rest = sizes[order[0]] if order else 1, 1
    for i in order[1:]:
        rest = rest * sizes[i]
    y = g.emit(kind, (g.reshape(last, shape=(first, rest, sizes[at])),), attrs)
    y = g.reshape(y, shape=(*(sizes[i] for i in order), sizes[at]))
    return g.transpose(y, perm=back)


def _deviation(op: Op) -> Value | None:
    """x, where `op` is the mean or the sum of (x - mean of x)², over the same axes."""
    square = op.operands[0].op
    if op.kind not in ("mean", "sum") or square is None or not bare(square):
        return None
    a, *b = square.operands
    if not ((square.kind == "mul" and b[0] is a) or (square.kind == "pow" and is_number(b[0], 2))):
        return None
    off = a.op
    if off is None or off.kind != "sub" or not bare(off):
        return None
    x, mean = off.operands
    axes = set(op.attrs["axes"])
    if mean.type.sizes != tuple(1 if i in axes else s for i, s in enumerate(x.type.sizes)):
        return None
    centre = mean.op.operands[0].op if mean.op is not None and mean.op.kind == "reshape" else mean.op
    if centre is None or centre.kind != "mean" or centre.operands[0] is not x or not bare(centre):
        return None
    return x if set(centre.attrs["axes"]) == axes else None


def _per_frame(op: Op) -> Op:
    """The op that divides a sum by the number of frames, if that is all that is done with it; else `op`."""
    readers = list(op.result.users)
    returned = any(v is op.result for v in op.graph.outputs)
    if op.kind != "sum" or len(readers) != 1 or returned or readers[0].kind != "div":
        return op
    by = readers[0].operands[1]
    return readers[0] if readers[0].operands[0] is op.result and _of_length(by) else op


def _answers(graph: Graph, statistics: list[Value]) -> set[int]:
    """Those (by id) that reach an output through ops that see no frames, were all of them constants."""
    fixed = {id(v) for v in statistics}
    live = {id(v) for v in graph.inputs if any(d.time is not None for d in v.type.shape)}
    sources: dict[int, set[int]] = {i: {i} for i in fixed}
    for op in graph.ops:
        read = [id(v) for v in op.operands if v is not None]
        if any(i in live for i in read):
            live.update(id(r) for r in op.results if id(r) not in fixed)
            continue
        from_all = set().union(*(sources.get(i, ()) for i in read))
        for r in op.results:
            if id(r) not in fixed:
                sources[id(r)] = from_all
    return set().union(*(sources.get(id(v), ()) for v in graph.outputs))


def _of_length(v: Value) -> bool:
    if v.op is None:
        return False
    if v.op.kind == "size":
        return True
    return definition(v.op.kind).family == "pointwise" and any(_of_length(o) for o in v.op.operands)


# -- norms, spelled out --------------------------------------------------------------------------------------------
def _normalised(op: Op) -> tuple[int, ...]:
    rank = op.operands[0].type.rank
    return tuple(range(2, rank)) if op.kind == "group_norm" else tuple(range(op.attrs["axis"] % rank, rank))


def _group_norm(g: Builder, op: Op) -> Value:
    x, w, b = op.operands
    n, c, *space = x.type.sizes
    groups = op.attrs["groups"]
    if groups == c:
        y = _normed(g, x, tuple(range(2, x.type.rank)), op.attrs["eps"])
    elif groups == 1:
        y = _normed(g, x, tuple(range(1, x.type.rank)), op.attrs["eps"])
    else:
        y = g.reshape(x, shape=(n, groups, c // groups, *space))
        y = g.reshape(_normed(g, y, tuple(range(2, y.type.rank)), op.attrs["eps"]), shape=(n, c, *space))
    shape = (c, *[1] * len(space))
    y = y if w is None else g.mul(y, g.reshape(w, shape=shape))
    return y if b is None else g.add(y, g.reshape(b, shape=shape))


def _layer_norm(g: Builder, op: Op) -> Value:
    x, w, b = op.operands
    y = _normed(g, x, _normalised(op), op.attrs["eps"])
    y = y if w is None else g.mul(y, w)
    return y if b is None else g.add(y, b)


def _normed(g: Builder, x: Value, axes: tuple[int, ...], eps: float) -> Value:
    off = g.sub(x, g.mean(x, axes=axes, keepdims=True))
    variance = g.mean(g.mul(off, off), axes=axes, keepdims=True)
    return g.div(off, g.sqrt(g.add(variance, g.const(eps, x.type.dtype))))


SPELLED = {"group_norm": _group_norm, "layer_norm": _layer_norm}

"""Limit how far attention looks: to chunks, to a sliding window, or in the past alone."""

from __future__ import annotations

from ..ir.errors import UsageError
from ..ir.expr import same
from ..ir.graph import Builder, Graph, Op, Value
from ..ir.types import Dim
from .base import Context, Pass
from .durations import MEASURED, chunks_of, frames_of


class LimitAttention(Pass):
    """Mask every self-attention over time to a band.

    By chunk, query i sees key j where -left/chunk <= ⌊j/chunk⌋ - ⌊i/chunk⌋ <= right/chunk (Chen et al. 2021); with
    `window`, where -left <= j - i <= right (Beltagy et al. 2020). `chunk`, `left` and `right` are ticks of the clock
    that time follows, so layers of other rates see as far; left = -1 is all of the past. `only_left` sets no bound on
    the right: for attention that is causal by its own mask.

    The mask is computed from positions, so it holds for every length. Attention to a memory that does not follow the
    queries' clock at their rate is left alone. Raises `UnsupportedError` SC212 where a duration is not a whole number
    of frames, or `left` or `right` not a whole number of chunks.
    """

    name, stage, equal = "limit-attention", "streaming", MEASURED
    chunk: int = 16
    left: int = -1
    right: int = 0
    window: bool = False
    only_left: bool = False

    def run(self, graph: Graph, context: Context) -> None:
        if self.chunk < 1 or self.left < -1 or self.right < 0 or (self.only_left and self.left < 0):
            raise UsageError("SC020", f"{self}: chunk >= 1, left >= -1 (only_left: >= 0) and right >= 0 are wanted")
        bands: dict[tuple, Value] = {}
        for op in graph.ops:
            limit = {"attention": self._attention, "softmax": self._softmax}.get(op.kind)
            if limit is not None:
                limit(graph, op, bands, context)

    def _attention(self, graph: Graph, op: Op, bands: dict, context: Context) -> None:
        q, k, _, mask = op.operands
        if not self._together(op, q.type.shape[-2], k.type.shape[-2], context) or not context.allow():
            return
        g = Builder(graph, op.loc.through(self.name), before=op)
        band = self._band(g, op, q.type.shape[-2], k.type.shape[-2], bands)
        if mask is None:
            op.set_operand(3, band)
        elif mask.type.dtype == "bool":
            op.set_operand(3, g.logical_and(mask, band))
        else:
            op.set_operand(3, _hidden(g, band, mask))
        op.loc = g.loc
        context.remark("applied", self.name, f"{op.kind} sees no more than {self._said()}", op)

    def _softmax(self, graph: Graph, op: Op, bands: dict, context: Context) -> None:
        scores = op.operands[0]
        shape = scores.type.shape
        keys = op.attrs["axis"] % len(shape)
        queries = [i for i, d in enumerate(shape) if d.time is not None and i != keys]
        if shape[keys].time is None or not queries:
            return
        if len(queries) > 1:
            context.remark("missed", self.name, "scores of three times: which are the queries is not known", op)
            return
        (at,) = queries
        if not self._together(op, shape[at], shape[keys], context) or not context.allow():
            return
        g = Builder(graph, op.loc.through(self.name), before=op)
        band = self._band(g, op, shape[at], shape[keys], bands)
        if at > keys:
            band = g.transpose(band, perm=(1, 0))
        first, second = sorted((at, keys))
        if second != first + 1 or second != len(shape) - 1:
            sizes = [d.size if i in (first, second) else 1 for i, d in enumerate(shape)][first:]
            band = g.reshape(band, shape=sizes)
        op.set_operand(0, _hidden(g, band, scores))
        context.remark("applied", self.name, f"{op.kind} sees no more than {self._said()}", op)

    def _said(self) -> str:
        left = "all of the past" if self.left < 0 else f"{self.left} ticks back"
        if self.only_left:
            return left
        whole = "" if self.window else f"its chunk of {self.chunk} ticks, "
        return f"{whole}{left} and {self.right} ahead"

    def _together(self, op: Op, query: Dim, key: Dim, context: Context) -> bool:
        """Whether queries and keys are frames of one stream."""
        if query.time is None or key.time is None:
            return False
        if query.time.clock != key.time.clock or query.time.rate != key.time.rate:
            context.remark("missed", self.name, f"queries and keys do not keep step: {query} and {key}", op)
            return False
        return True

    def _band(self, g: Builder, op: Op, query: Dim, key: Dim, bands: dict) -> Value:
        """Whether query i sees key j: bool[queries, keys], made once for all ops that want the same."""
        time = query.time
        left = frames_of(self.left, time, "left context", op, 0) if self.left > 0 else self.left
        right = frames_of(self.right, time, "right context", op, 0)
        chunk = 1 if self.window or self.only_left else frames_of(self.chunk, time, "an attention chunk", op)
        if chunk > 1:
            left = chunks_of(left, chunk, time, "left context", op) if left > 0 else left
            right = chunks_of(right, chunk, time, "right context", op)
        wanted = (str(query.size), str(key.size), chunk, left, right)
        if wanted not in bands:
            bands[wanted] = self._built(g, query, key, chunk, left, right)
        return bands[wanted]

    def _built(self, g: Builder, query: Dim, key: Dim, chunk: int, left: int, right: int) -> Value:
        def positions(d: Dim) -> Value:
            at = g.iota(size=d.size, dtype="i32")
            return at if chunk == 1 else g.floor_div(at, g.const(chunk, "i32"))

        i = positions(query)
        j = i if same(query.size, key.size) else positions(key)
        i = g.reshape(i, shape=(query.size, 1))
        j = g.reshape(j, shape=(1, key.size))
        ahead = g.sub(j, i)
        bounds = []
        if left >= 0:
            bounds.append(g.less_equal(g.const(-left, "i32"), ahead))
        if not self.only_left:
            bounds.append(g.less_equal(ahead, g.const(right, "i32")))
        return bounds[0] if len(bounds) == 1 else g.logical_and(*bounds)


def _hidden(g: Builder, band: Value, scores: Value) -> Value:
    """Scores, or what is added to them, with -infinity outside the band."""
    scores = scores if scores.type.quant is None else g.dequantize(scores)
    return g.where(band, scores, g.const(float("-inf"), scores.type.dtype))

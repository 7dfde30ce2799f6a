"""Greedy CTC decoding in the graph: one token a frame, -1 where there is none."""

from __future__ import annotations

from ..ir.errors import UsageError
from ..ir.graph import Builder, Graph, Loc, Value
from ..ir.types import Tensor
from .base import Context, Exact, Pass

TOKENS = "tokens"
SOFTMAX = ("log_softmax", "softmax")


class GreedyCTC(Pass):
    """Add an output `tokens` beside log-probabilities: best-path decoding (Graves et al. 2006).

    From f[B, frames, V] (or f[B, V, frames]) it is i32[B, frames]: the likeliest class of each frame, -1 where that is
    `blank` or the class of the frame before. What is left is the text: dropping each -1 is the only step outside the
    graph. Streamed, the class of the last frame is a state. `output` names the log-probabilities; left out, they are
    the only floating-point output with time and classes, or the only one of those that a softmax makes.

    Raises `UsageError` SC022 where `output` names none that fits. Outputs that were there stay as they are.
    """

    name, stage, equal = "greedy-ctc", "normalize", Exact()
    blank: int = 0
    output: str = ""

    def run(self, graph: Graph, context: Context) -> None:
        scores = self._scores(graph, context)
        if scores is None or not context.allow():
            return
        loc = (scores.op.loc if scores.op else Loc("")).through(self.name)
        graph.output(greedy(Builder(graph, loc), scores, self.blank), TOKENS)
        context.remark("applied", self.name, f"tokens of {scores.type} by frame", loc)

    def _scores(self, graph: Graph, context: Context) -> Value | None:
        named = dict(zip(graph.output_names, graph.outputs))
        fitting = {name: v for name, v in named.items() if axes_of(v.type, self.blank) is not None}
        if self.output and self.output not in fitting:
            has = ", ".join(f"{name} ({v.type})" for name, v in named.items())
            raise UsageError("SC022", f"{self}: no log-probabilities [batch, frames, classes]; outputs are {has}")
        if self.output:
            fitting = {self.output: fitting[self.output]}
        elif len(fitting) > 1:
            fitting = {n: v for n, v in fitting.items() if v.op and v.op.kind in SOFTMAX} or fitting
        if TOKENS in named or len(fitting) != 1:
            why = (
                f"{len(fitting)} outputs may be log-probabilities"
                if TOKENS not in named
                else "there are tokens already"
            )
            last = named[next(iter(named))].op if named else None
            context.remark("missed", self.name, why, last.loc if last else Loc(""))
            return None
        (scores,) = fitting.values()
        return scores


def axes_of(type: Tensor, blank: int) -> tuple[int, int] | None:
    """The dimensions of time and of classes; None where a type is not that of log-probabilities."""
    times = [i for i, d in enumerate(type.shape) if d.time is not None]
    if not type.is_float or len(times) != 1 or type.rank < 2:
        return None
    classes = type.rank - 1 if times[0] != type.rank - 1 else type.rank - 2
    size = type.sizes[classes]
    return (times[0], classes) if classes > 0 and isinstance(size, int) and 0 <= blank < size else None


def greedy(b: Builder, scores: Value, blank: int) -> Value:
    """i32 of the shape of `scores` without its classes: the best class of each frame where it is new, else -1."""
    time, classes = axes_of(scores.type, blank)
    best = b.cast(b.argmax(scores, axis=classes), dtype="i32")
    axis = time - (classes < time)
    frames = best.type.sizes[axis]
    nothing = b.const(blank, "i32")
    first = b.expand(nothing, shape=[1 if i == axis else s for i, s in enumerate(best.type.sizes)])
    before = b.slice(b.concat(first, best, axis=axis), axis=axis, start=0, stop=frames)
    silent = b.logical_or(b.equal(best, nothing), b.equal(best, before))
    return b.where(silent, b.const(-1, "i32"), best)

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
        if not self.output and (why := unclear(graph, self.blank)):
            last = graph.outputs[0].op if graph.outputs else None
            context.remark("missed", self.name, why, last.loc if last else Loc(""))
            return
        named = dict(zip(graph.output_names, graph.outputs))
        scores = named.get(self.output or log_probabilities(graph, self.blank))
        if scores is None or axes_of(scores.type, self.blank) is None:
            raise UsageError("SC022", f"{self}: no log-probabilities [batch, frames, classes]; {_outputs(graph)}")
        if TOKENS in named or not context.allow():
            return
        loc = (scores.op.loc if scores.op else Loc("")).through(self.name)
        graph.output(greedy(Builder(graph, loc), scores, self.blank), TOKENS)
        context.remark("applied", self.name, f"tokens of {scores.type} by frame", loc)


def log_probabilities(graph: Graph, blank: int) -> str:
    """The name of the output that scores the classes of every frame. Raises `UsageError` SC052 where that is unclear.

    It is the only floating-point output with time and more classes than `blank`, or the only one of those that a
    softmax makes.
    """
    if why := unclear(graph, blank):
        raise UsageError(
            "SC052",
            f"greedy CTC with blank {blank}: {why}; {_outputs(graph)}",
            hints=["the model returns log-probabilities f32[batch, frames, classes], the blank's class among them"],
        )
    (name,) = _fitting(graph, blank)
    return name


def unclear(graph: Graph, blank: int) -> str:
    """Why there is not one output of log-probabilities; empty where there is."""
    fitting = _fitting(graph, blank)
    if TOKENS in graph.output_names:
        return "there are tokens already"
    if not fitting:
        return f"no output is log-probabilities [batch, frames, classes] of {max(blank, 0) + 1} classes or more"
    return "" if len(fitting) == 1 else f"{len(fitting)} outputs may be log-probabilities"


def _fitting(graph: Graph, blank: int) -> dict[str, Value]:
    named = zip(graph.output_names, graph.outputs)
    fitting = {name: v for name, v in named if axes_of(v.type, blank) is not None}
    made = {name: v for name, v in fitting.items() if v.op and v.op.kind in SOFTMAX}
    return made if len(fitting) > 1 and made else fitting


def _outputs(graph: Graph) -> str:
    return "outputs are " + ", ".join(f"{name} ({v.type})" for name, v in zip(graph.output_names, graph.outputs))


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

"""The walk over an offline graph that builds its step graph: a rule an op, from facts to facts."""

from __future__ import annotations

import math

from ...ir.errors import UnsupportedError
from ...ir.expr import Expr, symbols
from ...ir.graph import Graph, Loc, Op, Value
from ...ir.types import Dim
from .facts import Const, Coord, Fact, Score, Sizes, Stream, growing, refuse
from .finite import settle, watched
from .framewise import ATTENTION
from .rules import load
from .step import Options, Step
from .window import by_chunk

NAME = "streaming"


def stream(graph: Graph, chunk: int, streams: int, options: Options) -> Step:
    """The step graph of `graph`, for steps of `chunk` input frames and a batch of `streams`.

    Raises `UnsupportedError` SC2xx, naming op, module path and the rewrites on offer, where there is none.
    """
    for v in graph.states.values():
        raise refuse("SC215", f"the model keeps state of its own (@{v.name})", next(iter(v.users)),
                     "leave --stream out: its calls are steps already")  # fmt: skip
    sizes = Sizes(the_clock(graph), chunk, {"batch": streams})
    step = Step(graph, sizes, streams, options)
    whole_frames(graph, chunk)
    step.clock.start()
    step.watched, step.b.loc = watched(graph), Loc("input", passes=(NAME,))
    for v in graph.inputs:
        step.facts[id(v)] = settle(step, None, v, _input(step, v))
    rules = load()
    for op in graph.ops:
        visit(step, op, rules)
    _outputs(step)
    step.clock.finish()
    step.graph.sweep()
    return step


def whole_frames(graph: Graph, chunk: int) -> None:
    """Raise SC200 where a step holds a fraction of a frame, with the least step that fits the whole graph."""
    timed = [(op, d.time.rate) for op in graph.ops for r in op.results for d in r.type.shape if d.time is not None]
    fits = math.lcm(*(rate.denominator for _, rate in timed))
    for op, rate in timed:
        if (rate * chunk).denominator > 1:
            what = f"a step of {chunk} input frames holds {rate * chunk} frames of it"
            raise refuse("SC200", what, op, f"--stream with a multiple of {fits} input frames", *by_chunk(op))


def the_clock(graph: Graph) -> str:
    """The symbol of the length that the inputs share."""
    found = {name for v in graph.inputs for d in v.type.shape if d.time is not None for name in symbols(d.size)}
    found -= {"batch"}
    if len(found) != 1:
        fixed = any(d.time is not None for v in graph.inputs for d in v.type.shape)
        none = "inputs of fixed size (is it a step already?)" if fixed else "no input with time"
        what = f"lengths {', '.join(sorted(found))}" if found else none
        raise UnsupportedError("SC201", f"a step follows one length; this graph has {what}",
                               hints=["--time-axis name=1 says which dimension is time"])  # fmt: skip
    return found.pop()


def _input(step: Step, v: Value) -> Fact:
    shape = [Dim(step.sizes.size(d.size), d.time) for d in v.type.shape]
    new = step.graph.input(v.name, v.type.with_(shape=shape))
    times = [d for d in shape if d.time is not None]
    return step.stream(v, new) if times else Const(new)


def visit(step: Step, op: Op, rules) -> None:
    """Give every result of `op` its fact."""
    step.op, step.b.loc = op, op.loc.through(NAME)
    facts = [step.fact(v) for v in op.operands if v is not None]
    try:
        made = _facts(step, op, facts, rules)
    except UnsupportedError as error:
        if not error.where:
            error.where.append(str(op.loc))
        raise
    for r, fact in zip(op.results, made if isinstance(made, tuple) else (made,), strict=True):
        if fact is not None:
            step.facts[id(r)] = settle(step, op, r, fact)


def _facts(step: Step, op: Op, facts: list[Fact], rules):
    if all(isinstance(f, Const | Coord) for f in facts):
        if any(isinstance(f, Coord) for f in facts) or _has_length(step, op):
            return tuple(Coord(r) for r in op.results)
        values = step.b.emit(
            op.kind, [None if v is None else step.fact(v).value for v in op.operands], step.sizes.attr_map(op)
        )
        return tuple(Const(v) for v in (values if isinstance(values, tuple) else (values,)))
    if op.kind not in rules:
        raise refuse("SC202", "there is no streaming rule for it", op, "docs/streaming.md says how to write one")
    if op.attrs.get("dynamic") == "tensor":
        raise refuse("SC208", "one scale for a whole chunk makes its result depend on how the audio is cut", op,
                     "--calibrate DIR fixes the scales")  # fmt: skip
    scored = op.kind != "attention" and any(len(_times(step, r)) > 1 for r in op.results)
    if scored or (any(isinstance(f, Score) for f in facts) and op.kind != "attention"):
        return _score(step, op)
    return rules[op.kind](step, op)


def _score(step: Step, op: Op):
    if not all(len(_times(step, r)) > 1 for r in op.results):
        why = "attention streams where it is recognised as softmax(q·kᵀ·scale + mask)·v"
        raise refuse("SC204", "it reads scores of queries and keys that are no attention", op, ATTENTION, why=why)
    return tuple(Score(r) for r in op.results)


def _times(step: Step, v: Value) -> list[int]:
    return [i for i in growing(v.type) if not isinstance(step.length(v, i), int)]


def _has_length(step: Step, op: Op) -> bool:
    """Whether an op without streams depends on a length."""

    def moving(value) -> bool:
        if isinstance(value, tuple):
            return any(map(moving, value))
        if isinstance(value, Dim):
            return moving(value.size)
        return isinstance(value, Expr) and bool(symbols(value) - {"batch"})

    return any(map(moving, op.attrs.values()))


def _outputs(step: Step) -> None:
    """Return what the offline graph returns, and which frames of it are real."""
    graph, step.op = step.graph, None
    late = []
    for v, name in zip(step.offline.outputs, step.offline.output_names):
        fact = step.fact(v)
        step.op = v.op or step.op
        step.b.loc = (v.op.loc if v.op else Loc(name)).through(NAME)
        if isinstance(fact, Const):
            graph.output(fact.value, name)
        elif isinstance(fact, Stream):
            plain = step.plain(fact)
            graph.output(plain.value, name)
            late.append((name, plain))
        elif isinstance(fact, Score):
            hint = "leave attention weights out of the outputs"
            raise UnsupportedError("SC204", f"output {name} holds {v.type}: all frames beside all frames",
                                   [str(step.b.loc)], [hint])  # fmt: skip
        else:
            raise UnsupportedError(
                "SC206", f"output {name} depends on the length of the utterance alone", [str(step.b.loc)]
            )
    if step.clock.used or any(s.time.delay for _, s in late):
        for name, s in late:
            graph.output(step.clock.range(s.dim), f"{name}.range")


def replaced(graph: Graph, step: Graph) -> None:
    """Make `graph` the step graph, in place."""
    graph.inputs, graph.states = step.inputs, {n: v for n, v in step.states.items() if v.users}
    graph.outputs, graph.output_names = step.outputs, step.output_names
    graph._weight_values, graph._first, graph._last = step._weight_values, step._first, step._last
    for op in graph.ops:
        op.graph = graph

"""What is held against a step graph: its outputs chunk by chunk are those of the whole, and none waits in vain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from speechc.compiler.step_runner import run_stream
from speechc.ir.expr import Expr
from speechc.ir.graph import Module, Op
from speechc.ir.interpreter import run as interpret
from speechc.ir.text import clone, retyped
from speechc.ir.types import Time
from speechc.ir.verifier import verify
from speechc.lowering.target import target
from speechc.passes.base import Context, make
from speechc.passes.stream import window
from speechc.passes.stream.facts import Stream
from speechc.passes.stream.step import Step
from stream_cases import Plan, StreamCase, drawn, reduced, time_axis, times

# Sums in another order: float64 and float32, relative to the largest value (to 1 where all are smaller).
TOLERANCE = {"f64": 1e-10, "f32": 1e-5}
TAILS = (np.nan, 1e4, -1e4)


def step_of(case: StreamCase, chunk: int | None = None, **options) -> Module:
    """The step graph of a case, its attention recognised first; what attention keeps is chosen by the seed."""
    module = clone(case.module)
    make("recognise-attention").run(module.main, Context())
    cache = ("speed", "memory")[case.plan.seed % 2]
    given = {"chunk": chunk or case.step, "batch": case.batch, "cache": cache, **options}
    make(f"streaming{{{', '.join(f'{k}={v!r}' for k, v in given.items())}}}").run(module.main, Context())
    verify(module)
    assert not list(lengths_in(module)), f"the length of the whole is left in the step:\n{module}"
    return module


def lengths_in(step: Module) -> Iterator[Op]:
    """Ops that have a size which is not known, or an attribute that depends on one."""
    for op in step.main.ops:
        if not all(r.type.static for r in op.results) or any(map(_unknown, op.attrs.values())):
            yield op


def _unknown(value) -> bool:
    return isinstance(value, Expr) or (isinstance(value, tuple) and any(map(_unknown, value)))


def distance(streamed: np.ndarray, whole: np.ndarray) -> float:
    """Largest difference, relative to the largest value; infinite where shapes or tokens differ or a NaN came in."""
    if streamed.shape != whole.shape or streamed.dtype != whole.dtype:
        return np.inf
    if whole.dtype.kind != "f":
        return 0.0 if (streamed == whole).all() else np.inf
    if not np.isfinite(streamed).all():
        return np.inf
    return float(np.abs(streamed - whole).max(initial=0) / max(1.0, np.abs(whole).max(initial=0)))


def whole(case: StreamCase, length: int) -> tuple[np.ndarray, ...]:
    """The offline outputs for inputs of `length` frames."""
    return interpret(case.graph, case.feeds(length))


def rounding(case: StreamCase, length: int) -> float:
    """How far the whole in float32 is from the whole in float64."""
    exact = interpret(retyped(case.module).main, {k: v.astype(np.float64) for k, v in case.feeds(length).items()})
    return max(distance(a.astype(np.float64), b) for a, b in zip(whole(case, length), exact))


def faults(case: StreamCase, step: Module, tolerance: float | None = None, **more) -> Iterator[str]:
    """Where the outputs chunk by chunk are not those of the whole, at every stream's own length."""
    lengths = case.lengths
    more.setdefault("tail", TAILS[case.plan.seed % 3])
    got = run_stream(step.main, case.feeds(max(lengths)), lengths=lengths, **more)
    wholes = {n: whole(case, n) for n in set(lengths)}
    for i, n in enumerate(lengths):
        for name, a, b in zip(case.graph.output_names, got[i], wholes[n], strict=True):
            away = distance(a, b[i : i + 1])
            if away > (tolerance or TOLERANCE[case.plan.dtype]):
                yield f"stream {i} of {n} frames, tail {more['tail']}: {name} is {away:.1e} away"


def check(case: StreamCase, **more) -> Module:
    """Hold a step graph to the whole; what fails is shown with a smaller graph that fails as well."""
    try:
        step = step_of(case)
        found = list(faults(case, step, **more))
    except Exception as error:
        error.add_note(f"{smaller(case.plan)!r}")
        raise
    assert not found, "\n".join([*found, repr(smaller(case.plan))])
    return step


def fails(plan: Plan) -> bool:
    """Whether the streamed outputs of a plan are wrong, or cannot be made."""
    try:
        case = drawn(plan)
        return any(faults(case, step_of(case)))
    except Exception:
        return True


def smaller(plan: Plan) -> StreamCase:
    """The case of the smallest plan found that fails."""
    return drawn(reduced(plan, fails))


def runner(kind: str, step: Module, folder: Path):
    """(session, run): a step graph as a file of a target, and what runs a step of it, which keeps its states itself."""
    to = target(kind)
    for text in to.legalize_for("float32"):
        make(text).run(step.main, Context())
    to.check(step.main)
    path = folder / f"step{to.suffix}"
    to.emit(step, path, "float32", {})
    session = to.load(path, 1)

    def run(graph, feeds, states):
        out = session.run_named(feeds)
        return [out[name] for name in graph.output_names]

    return session, run


# -- delays ----------------------------------------------------------------------------------------------------------
def newest(case: StreamCase, length: int) -> list[np.ndarray]:
    """For every output and frame, the newest input frame that it must have seen (-1: none).

    A frame must have seen input frame t if it is another one, or none, where the input ends before t.
    """
    last = whole(case, length)
    axes = [time_axis(v) for v in case.graph.outputs]
    seen = [np.full(y.shape[a], -1) for y, a in zip(last, axes)]
    for t in range(case.least, length):
        for y, z, axis, found in zip(last, whole(case, t), axes, seen):
            n = z.shape[axis]
            away = np.abs(y.take(range(n), axis) - z).max(axis=tuple(i for i in range(z.ndim) if i != axis))
            found[:n][away > 1e-9] = t
            found[n:] = t
    return seen


def least_delay(seen: np.ndarray, time: Time, chunk: int) -> int:
    """The least delay at which each frame comes in a step that has seen what it must."""
    block = int(time.rate * chunk)
    return max(0, int(np.max(block * (seen // chunk) - np.arange(len(seen)), initial=0, where=seen >= 0)))


def delays(step: Module) -> list[Time]:
    """The time of every output of the model."""
    return [times(v)[0] for n, v in zip(step.main.output_names, step.main.outputs) if not n.endswith(".range")]


@contextmanager
def unequal_joins() -> Iterator[list[int]]:
    """Counts, while graphs are made to stream, where streams that are not equally late meet."""
    met, join = [0], Step.join

    def counted(self, facts, what):
        late = {f.time.delay for f in facts if isinstance(f, Stream)}
        met[0] += len(late) > 1
        return join(self, facts, what)

    with patch.object(Step, "join", counted):
        yield met


@contextmanager
def early_streams() -> Iterator[list[int]]:
    """Counts, while graphs are made to stream, what may be later than it must for the sake of its first frames.

    Windows whose padding makes them earlier than their input; padding that is taken from the first frames.
    """
    met, delay_of = [0], window.delay_of

    def counted(w, pads, delay):
        met[0] += delay + window.look_ahead(w, pads) <= 0 or (pads.front > 0 and pads.mode != "constant")
        return delay_of(w, pads, delay)

    with patch.object(window, "delay_of", counted):
        yield met

"""Runs passes over a module: verifies, times and reports each one, and lets observers look at what it did."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..ir.errors import NumericalError, SpeechcError
from ..ir.graph import Module
from ..ir.interpreter import initial_states
from ..ir.interpreter import run as interpret
from ..ir.text import clone, print_module, retyped
from ..ir.verifier import verify
from ..passes.base import RESHAPING, Context, Lossy, Pass
from .invariants import check_stage
from .numerics import Difference, difference
from .samples import real_outputs, step_feeds, stored_feeds

STEPS = 3  # of a step graph, when it is evaluated: states must have had time to matter


@dataclass
class Step:
    """What one pass did: `changed` is found by comparing texts, never reported by the pass."""

    name: str
    seconds: float
    changed: bool
    changes: int
    ops: int
    difference: Difference | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON; the difference only where it was measured."""
        plain = {"name": self.name, "seconds": round(self.seconds, 4), "changed": self.changed}
        plain |= {"changes": self.changes, "ops": self.ops}
        return plain if self.difference is None else plain | {"difference": self.difference.as_dict()}


@dataclass
class Manager:
    """Runs a list of passes.

    `verify_each`: "types" re-infers every type after every pass; "numeric" also evaluates the graph before and after
    on `feeds` in float64 and holds the pass to its `equal`. `observers` are called as (index, pass, module, step).
    """

    context: Context = field(default_factory=Context)
    verify_each: str = "types"
    feeds: Mapping[str, np.ndarray] | None = None
    observers: list[Callable[[int, Pass, Module, Step], None]] = field(default_factory=list)

    def run(self, module: Module, passes: list[Pass]) -> list[Step]:
        """Apply `passes` to every graph of `module` in place."""
        verify(module)
        self.context.meta = module.meta
        text, steps = print_module(module), []
        for index, p in enumerate(passes, 1):
            before = clone(module) if self.verify_each == "numeric" and not isinstance(p.equal, RESHAPING) else None
            changes, start = self.context.changes, time.perf_counter()
            try:
                for graph in module.graphs.values():
                    p.run(graph, self.context)
                    graph.sweep()
            except SpeechcError as error:
                error.where.append(f"pass {p}")
                raise
            seconds = time.perf_counter() - start
            now = print_module(module)
            step = Step(
                str(p), seconds, now != text, self.context.changes - changes, sum(map(len, module.graphs.values()))
            )
            text = now
            if step.changed:
                verify(module)
                check_stage(p, module)
                if before is not None:
                    step.difference = compare(before, module, self.feeds or {}, p)
                    judge(p, step.difference)
            steps.append(step)
            for observer in self.observers:
                observer(index, p, module, step)
        return steps


def compare(before: Module, after: Module, feeds: Mapping[str, np.ndarray], p: Pass | None = None) -> Difference:
    """Outputs of two versions of the first graph, in float64; a step graph, which takes chunks, on random ones.

    Where a pass is lossy, integers that only number a choice (of the likeliest class) are no measure of the loss.
    """
    graph = next(iter(before.graphs.values()))
    calls = step_feeds(graph, STEPS) or [feeds]
    if p is not None and isinstance(p.equal, Lossy):
        before = measured(before)
    return difference(evaluate64(kept(after, before), *calls), evaluate64(before, *calls))


def measured(module: Module) -> Module:
    """The module, its first graph without outputs that are integers of no scale, if it has others."""
    less = clone(module)
    graph = next(iter(less.graphs.values()))
    real = [i for i, v in enumerate(graph.outputs) if v.type.is_float or v.type.quant is not None]
    if len(real) in (0, len(graph.outputs)):
        return module
    graph.outputs = [graph.outputs[i] for i in real]
    graph.output_names = [graph.output_names[i] for i in real]
    graph.sweep()
    return less


def kept(after: Module, before: Module) -> Module:
    """`after`, if its first graph returns no more than that of `before` does; else a copy that returns as much."""
    names = next(iter(before.graphs.values())).output_names
    if set(next(iter(after.graphs.values())).output_names) <= set(names):
        return after
    less = clone(after)
    graph = next(iter(less.graphs.values()))
    graph.outputs = [v for v, name in zip(graph.outputs, graph.output_names) if name in names]
    graph.output_names = [name for name in graph.output_names if name in names]
    graph.sweep()
    return less


def evaluate64(module: Module, *calls: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The outputs of every call, and the last states, of the first graph, in float64 where it says float32."""
    wide = retyped(module)
    graph = next(iter(wide.graphs.values()))
    states, outputs = initial_states(graph), []
    for feeds in calls:
        fed = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in feeds.items()}
        outputs += real_outputs(graph, interpret(graph, stored_feeds(graph, fed), states))
    return (*outputs, *states.values())


def judge(p: Pass, found: Difference) -> None:
    """Raise if a pass did not keep what it declares."""
    if not keeps(p, found):
        raise NumericalError(
            "SC500",
            f"pass {p} declares {p.equal}, but outputs differ: {found}",
            hints=["--bisect finds the single rewrite that breaks it"],
        )


def keeps(p: Pass, found: Difference) -> bool:
    """Whether a difference is one that the pass declares."""
    if isinstance(p.equal, Lossy) and p.equal.metric == "snr":
        return found.snr >= p.equal.budget
    return p.equal.allows(found.error)

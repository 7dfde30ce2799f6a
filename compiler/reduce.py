"""Shrinks a graph on which something fails to the few ops that it takes, and writes them down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..ir.errors import SpeechcError
from ..ir.graph import Graph, Module
from ..ir.text import clone, save
from ..ir.verifier import verify

Fails = Callable[[Module], bool]


def reduce(module: Module, fails: Fails) -> Module:
    """The smallest graph found on which `fails` still holds (a copy; `module` itself must fail).

    First the tail goes: results further up become the only output. Then the head: results become inputs. Each step is
    kept only if the graph stays well-formed and still fails; steps halve, so the cost is about n log n ops run.
    """
    best = clone(module)
    best = _shrink(best, fails, _cut_tail)
    return _shrink(best, fails, _cut_head)


def _shrink(module: Module, fails: Fails, cut: Callable[[Graph, int], None]) -> Module:
    graph = module.main
    step = max(len(graph) // 2, 1)
    while True:
        trial = clone(module)
        try:
            cut(trial.main, step)
            trial.main.sweep()
            smaller = len(trial.main) < len(module.main)
            verify(trial)
            works = smaller and fails(trial)
        except (SpeechcError, ValueError):
            works = False
        if works:
            module = trial
            step = min(step, max(len(module.main) - 1, 1))
        elif step > 1:
            step //= 2
        else:
            return module


def _cut_tail(graph: Graph, count: int) -> None:
    """Return the result of the op that is `count` ops before the last, and nothing else."""
    ops = [op for op in graph.ops if len(op.results) == 1]
    kept = ops[-1 - count] if count < len(ops) else ops[0]
    graph.outputs, graph.output_names = [kept.result], ["y"]


def _cut_head(graph: Graph, count: int) -> None:
    """Make inputs of what the first `count` ops hand on, and drop inputs that nothing reads."""
    ops = list(graph.ops)
    first, rest = set(ops[:count]), set(ops[count:])
    taken = {v.name for v in graph.inputs}
    for op in ops[:count]:
        for r in op.results:
            if any(u in rest for u in r.users) or any(o is r for o in graph.outputs):
                name = next(n for n in (f"x{i}" for i in range(len(taken) + 1)) if n not in taken)
                taken.add(name)
                graph.replace(r, graph.input(name, r.type))
    for op in reversed(ops[:count]):
        if op in first and not any(r.users for r in op.results):
            graph.erase(op)
    graph.inputs = [v for v in graph.inputs if v.users or any(o is v for o in graph.outputs)]


def write_reproducer(module: Module, folder: Path, pass_text: str) -> str:
    """Save the graph with its weights in `folder`, and give the one command that shows the failure."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "repro.sir"
    save(module, path)
    return f"speechc opt {path} -p '{pass_text}' --verify-each=numeric"

"""Where along a graph a target's file parts from the meaning: the first op that diverges, by module path."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..ir.errors import SpeechcError
from ..ir.graph import Graph, Module, Op
from ..ir.interpreter import run as interpret
from ..ir.text import clone
from ..lowering.target import Target
from .numerics import Difference, difference

AT_ONCE = 64  # outputs added to one file: more would change what a runtime can fuse even further


@dataclass
class Divergence:
    """The first op, in order, whose result differs by more than `tolerance` of its largest value."""

    op: str
    loc: str
    found: Difference

    def __str__(self) -> str:
        return f"they part at {self.op} in {self.loc}: {self.found}"


def first_divergence(
    module: Module, target: Target, feeds: Mapping[str, np.ndarray], precision: str, tolerance: float
) -> Divergence | None:
    """Run the first graph on `target` with its intermediate results as outputs, and compare them one by one.

    Results are looked at in blocks, in order; None where every one agrees (the difference is then made by what the
    runtime fuses only while nobody looks), or where the target cannot show them.
    """
    graph = next(iter(clone(module).graphs.values()))
    shown = [op for op in graph.ops if len(op.results) == 1 and op.result.type.is_float and not op.result.type.quant]
    for start in range(0, len(shown), AT_ONCE):
        try:
            for op, seen in _values(graph, shown[start : start + AT_ONCE], target, feeds, precision):
                if not seen.error <= tolerance:
                    return Divergence(op.kind, str(op.loc), seen)
        except SpeechcError:
            continue
    return None


def _values(graph: Graph, ops: list[Op], target: Target, feeds, precision: str):
    graph.outputs, graph.output_names = [op.result for op in ops], [f"value.{i}" for i in range(len(ops))]
    meant = interpret(graph, feeds)
    with tempfile.TemporaryDirectory(prefix="speechc-") as folder:
        path = Path(folder) / f"values{target.suffix}"
        target.emit(Module({graph.name: graph}, graph.weights), path, precision, {})
        written = target.load(path).run_named(feeds)
    for i, op in enumerate(ops):
        yield op, difference([written[f"value.{i}"]], [meant[i]])

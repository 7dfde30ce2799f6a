"""A fast way to run a graph inside the compiler: onnxruntime where it can, else the interpreter."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..ir.errors import SpeechcError
from ..ir.graph import Graph, Module
from ..ir.turns import joined, play
from ..lowering.target import Session, target


class Executor:
    """Callable as (graph, *calls) → outputs, `joined` where there are several; keeps the session of the last graph."""

    def __init__(self):
        self._graph: Graph | None = None
        self._text = ""
        self._session: Session | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="speechc-")

    def __call__(self, graph: Graph, *calls: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        if graph is not self._graph:
            self._graph, self._session = graph, self._open(graph)
        if self._session is None:
            return play(graph, *calls)
        self._session.reset()
        made = map(self._session.run_named, calls)
        return joined([[out[name] for name in graph.output_names] for out in made])

    def _open(self, graph: Graph) -> Session | None:
        path = Path(self._folder.name) / "graph.onnx"
        try:
            onnx = target("onnx")
            onnx.check(graph)
            onnx.emit(Module({graph.name: graph}, graph.weights), path, "float32", {})
            return onnx.load(path)
        except SpeechcError:  # not legal there, or onnxruntime is not installed: the interpreter means the same
            return None

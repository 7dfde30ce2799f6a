"""What an ONNX file holds inside: nodes' outputs by graph value, initializers, and a copy that shows more outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from ...ir.graph import Graph, Value
from ..inside import Inside, computed, showing
from ..manifest import Manifest
from ..target import Session, needs
from .emit import Emitter


class OnnxInside(Inside):
    """An ONNX file, described by `manifest`, beside the graph that an emitter wrote, or would write, as such a file."""

    def __init__(self, path: Path, manifest: Manifest, graph: Graph, emitter: Emitter | None = None):
        self.path, self.manifest = path, manifest
        self.onnx = needs("onnx", "onnx")
        e = emitter or Emitter(graph).run()
        made = {id(v): e._values.get(id(v)) for v in computed(graph)}
        # What no node computes (an input handed on, a constant) is no result of the op that returned it.
        self.names = {at: v.name for at, v in made.items() if v is not None and v.producer() is not None}

    @cached_property
    def model(self):
        """The model, its external data left where they are."""
        return self.onnx.load(str(self.path), load_external_data=False)

    @cached_property
    def tensors(self) -> set[str]:
        return {name for node in self.model.graph.node for name in node.output}

    def stored(self) -> Iterator[tuple[str, np.ndarray]]:
        for tensor in self.model.graph.initializer:
            yield tensor.name, self.onnx.numpy_helper.to_array(tensor, str(self.path.parent))

    def open(self, values: Iterable[Value], folder: Path) -> Session:
        from .run import OnnxSession

        shown = {self.names[id(v)]: v.type.dtype for v in values}
        copy = self.onnx.ModelProto()
        copy.CopyFrom(self.model)
        there = {o.name for o in copy.graph.output}
        copy.graph.output.extend(self.onnx.helper.make_empty_tensor_value_info(n) for n in shown if n not in there)
        place = Path(tempfile.mkdtemp(dir=folder))
        for data in {e.value for t in copy.graph.initializer for e in t.external_data if e.key == "location"}:
            (place / data).symlink_to((self.path.parent / data).resolve())
        path = place / self.path.name
        path.write_bytes(copy.SerializeToString())
        return OnnxSession(path, None, showing(self.manifest, shown))

"""What a TFLite file holds inside: tensors by graph value, buffers, and a copy that shows more outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from ...ir.graph import Graph, Module, Value
from ..inside import Inside, computed, port_name, showing
from ..manifest import Manifest, manifest_path
from ..target import Session, needs
from .file import Buffer
from .write import build


class TFLiteInside(Inside):
    """A TFLite file beside the module that was, or would be, emitted as such a file; its first graph is looked into."""

    def __init__(self, path: Path, module: Module, options: Mapping[str, object]):
        self.path = path
        self.manifest = Manifest.load(manifest_path(path))
        self.schema = needs("ai_edge_litert.schema_py_generated", "tflite")
        file, emitters = build(module.graphs, options, module.meta.get("limits", {}))
        graph: Graph = next(iter(module.graphs.values()))
        e = emitters[graph.name]
        tensors = file.subgraphs[e.graph].tensors
        inputs = set(file.subgraphs[e.graph].inputs)
        self.names = {}
        for v in computed(graph):
            t = e.values.get(id(v))
            if t is None or t.array is not None or id(v) in e.fused:  # the kernel of a fused op gives the later result
                continue
            index = e.renumbered.get(t.index)
            if index is not None and index not in inputs:
                self.names[id(v)] = tensors[index].name

    @cached_property
    def model(self):
        """The file as objects of its schema; constants are views of its bytes."""
        return self.schema.ModelT.InitFromPackedBuf(bytearray(self.path.read_bytes()), 0)

    @property
    def subgraph(self):
        """The first graph's subgraph."""
        return self.model.subgraphs[self.model.signatureDefs[0].subgraphIndex]

    @cached_property
    def indices(self) -> dict[str, int]:
        """Where the tensors are, by name."""
        made = {int(i) for o in self.subgraph.operators for i in o.outputs}
        return {t.name.decode(): i for i, t in enumerate(self.subgraph.tensors) if i in made}

    @property
    def tensors(self) -> set[str]:
        return set(self.indices)

    def stored(self) -> Iterator[tuple[str, np.ndarray]]:
        kinds = {v: k for k, v in vars(self.schema.TensorType).items() if isinstance(v, int)}
        for tensor in self.subgraph.tensors:
            data = self.model.buffers[tensor.buffer].data
            if data is not None and len(data):
                kind = np.dtype({"BOOL": "bool"}.get(kinds[tensor.type], kinds[tensor.type].lower()))
                yield tensor.name.decode(), np.asarray(data, np.uint8).view(kind).reshape(tensor.shape)
                scales = tensor.quantization.scale if tensor.quantization is not None else None
                if scales is not None and len(scales):
                    yield f"{tensor.name.decode()} (scales)", np.asarray(scales)

    def open(self, values: Iterable[Value], folder: Path) -> Session:
        from .run import TFLiteSession

        flatbuffers = needs("flatbuffers", "tflite")
        shown = {self.names[id(v)]: v.type.dtype for v in values}
        model = self.schema.ModelT.InitFromPackedBuf(bytearray(self.path.read_bytes()), 0)
        signature = model.signatureDefs[0]
        graph = model.subgraphs[signature.subgraphIndex]
        for name in shown:
            index = self.indices[name]
            signature.outputs.append(self.schema.TensorMapT(name=port_name(name), tensorIndex=index))
            if index not in {int(i) for i in graph.outputs}:
                graph.outputs = np.append(graph.outputs, np.int32(index))
        size = 2**16
        for i, b in enumerate(model.buffers):
            data = None if b.data is None or not len(b.data) else np.asarray(b.data, np.uint8)
            model.buffers[i] = Buffer(data)
            size += 0 if data is None else data.nbytes + 16
        builder = flatbuffers.Builder(size)
        builder.Finish(model.Pack(builder), b"TFL3")
        path = Path(tempfile.mkdtemp(dir=folder)) / self.path.name
        path.write_bytes(builder.Output())
        showing(self.manifest, shown, {n: port_name(n) for n in shown}).save(manifest_path(path))
        return TFLiteSession(path)

"""Writing ONNX files: weights streamed into the file one at a time, external data above a limit, all or nothing."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from ...ir.errors import UsageError
from ...ir.graph import Graph, Module
from ..files import folder_beside
from ..manifest import Manifest, manifest_of, manifest_path
from .emit import Emitter

ONNX_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW = 7, 5, 9  # field numbers in onnx.proto


def write_module(module: Module, path: Path, precision: str, external_above: int) -> list[Path]:
    """Write every graph of `module` and their manifest beside `path`; the paths written.

    Everything is written into a folder beside the target first and moved from there, so that a failure leaves what was
    there before.
    """
    stem = path.name.removesuffix(".onnx")
    single = len(module.graphs) == 1
    written: list[Path] = []
    try:
        with folder_beside(path) as folder:
            manifests = {}
            for name, graph in module.graphs.items():
                file = f"{stem}.onnx" if single else f"{stem}.{name}.onnx"
                manifests[name] = manifest(graph, file, precision, module.meta)
                write_graph(graph, folder / file, metadata(manifests[name]), external_above)
            first = next(iter(manifests.values()))
            if not single:
                first.meta["graphs"] = {n: _without_graphs(m) for n, m in manifests.items()}
            first.save(folder / manifest_path(path).name)
            for file in sorted(folder.iterdir(), key=lambda f: f.suffix == ".json"):
                written.append(path.parent / file.name)
                file.replace(written[-1])
    except OSError as error:
        raise UsageError(
            "SC060",
            f"cannot write {path}: {error.strerror or error}",
            hints=["choose another place with -o", "make room on the disk or change the permissions"],
        ) from None
    return sorted(written, key=lambda f: f.suffix == ".json")


def _without_graphs(m: Manifest) -> dict:
    data = asdict(m)
    data["meta"] = {k: v for k, v in data["meta"].items() if k != "graphs"}
    return data


def manifest(graph: Graph, file: str, precision: str, meta: dict) -> Manifest:
    """The manifest of one graph; states are inputs `state.<name>` and outputs `state.<name>.out`."""
    made = manifest_of(graph, file, "onnx", precision, meta)
    for state in made.states:
        state.file_name, state.output = f"state.{state.name}", f"state.{state.name}.out"
    return made


def metadata(m: Manifest) -> dict[str, str]:
    """What the ONNX file itself says about the model."""
    facts = {
        "precision": m.precision,
        "sample_rate": "" if m.sample_rate is None else str(m.sample_rate),
        "tokens": "\n".join(m.tokens or ()),
        "source_hash": m.source_hash,
    }
    return {k: v for k, v in facts.items() if v}


def write_graph(graph: Graph, path: Path, facts: dict[str, str], external_above: int) -> None:
    """Write one graph; weights beyond `external_above` bytes together go to `<path>.data`."""
    e = Emitter(graph).run()
    model = e.model(facts)
    if sum(v.const_value.nbytes for v in e.initializers.values()) > external_above:
        e.onnx.save(model, path, external_data=path.name + ".data", size_threshold_bytes=1024)
    else:
        _stream(e, model, path)


def _stream(e: Emitter, model, path: Path) -> None:
    """Serialize with one weight in memory at a time: the graph's length is known from the weights' sizes."""
    initializers = list(model.graph.initializers.values())
    model.graph.initializers.clear()
    proto = e.onnx.to_proto(model)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    head = proto.SerializeToString()
    frames = [_tensor_head(e, v) for v in initializers]
    length = len(graph) + sum(len(_frame(h, v)) + len(h) + v.const_value.nbytes for h, v in zip(frames, initializers))
    with path.open("wb") as file:
        file.write(head + _tag(ONNX_GRAPH) + _varint(length) + graph)
        for h, v in zip(frames, initializers):
            file.write(_frame(h, v) + h)
            file.write(v.const_value.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _tensor_head(e: Emitter, value) -> bytes:
    """A TensorProto up to, and with the length of, its raw data."""
    import onnx

    tensor = value.const_value
    proto = onnx.TensorProto(name=value.name, data_type=int(tensor.dtype), dims=[int(d) for d in tensor.shape])
    return proto.SerializeToString() + _tag(TENSOR_RAW) + _varint(tensor.nbytes)


def _frame(head: bytes, value) -> bytes:
    return _tag(GRAPH_INITIALIZER) + _varint(len(head) + value.const_value.nbytes)


def _tag(field: int) -> bytes:
    return bytes([field << 3 | 2])  # a length-delimited field


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)

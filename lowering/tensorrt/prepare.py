"""The ONNX model made ready for TensorRT's parser with onnx-graphsurgeon: scales of a precision, nothing unused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...ir.graph import Graph
from ..target import needs
from .emit import StrongEmitter

LEAST, LARGEST = 2.0**-14, 65504.0  # float16's smallest normal number and its largest


def prepare(graph: Graph, facts: dict[str, str]):
    """`(model, emitter)`: the ONNX model of a legal graph as TensorRT wants it, and what it was emitted by."""
    surgeon = needs("onnx_graphsurgeon", "tensorrt")
    e = StrongEmitter(graph).run()
    raw = e.onnx.to_proto(e.model(facts))
    surgery = surgeon.import_onnx(raw)
    narrow_scales(surgeon, surgery)
    surgery.cleanup().toposort()
    model = surgeon.export_onnx(surgery)
    model.ir_version = raw.ir_version
    del model.metadata_props[:]
    model.metadata_props.extend(raw.metadata_props)
    return model, e


def narrow_scales(surgeon, surgery) -> None:
    """DequantizeLinear whose result is only cast to float16 takes float16 scales: its type is that of its scales.

    So quantized numbers reach a product without a cast between, which is the pattern that TensorRT fuses. Scales that
    float16 would blur (below its smallest normal number) keep their cast.
    """
    for node in [n for n in surgery.nodes if n.op == "DequantizeLinear"]:
        scale, (real,) = node.inputs[1], node.outputs
        casts = real.outputs
        if not isinstance(scale, surgeon.Constant) or scale.values.dtype != np.float32 or real in surgery.outputs:
            continue
        if not casts or any(c.op != "Cast" or c.attrs["to"] != _half() for c in casts):
            continue
        if scale.values.min() < LEAST or scale.values.max() > LARGEST:
            continue
        node.inputs[1] = surgeon.Constant(f"{scale.name}.for.{node.name}", scale.values.astype(np.float16))
        real.dtype = np.float16
        for cast in list(casts):
            (narrow,) = cast.outputs
            for reader in list(narrow.outputs):
                reader.inputs = [real if v is narrow else v for v in reader.inputs]
            surgery.outputs = [real if v is narrow else v for v in surgery.outputs]
            cast.inputs.clear()


def _half() -> int:
    return needs("onnx", "tensorrt").TensorProto.FLOAT16


def save(model, path: Path, external_above: int) -> None:
    """Write the model; weights beyond `external_above` bytes together go to `<path>.data`."""
    onnx = needs("onnx", "tensorrt")
    large = sum(len(t.raw_data) for t in model.graph.initializer) > external_above
    more = {"save_as_external_data": True, "location": path.name + ".data", "size_threshold": 1024}
    onnx.save_model(model, path, **(more if large else {}))

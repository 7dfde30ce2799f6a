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
    numbers = narrow(surgeon, surgery)
    e.asked = [a.without(i for name, i in numbers if name == a.node) for a in e.asked]
    surgery.cleanup().toposort()
    model = surgeon.export_onnx(surgery)
    model.ir_version = raw.ir_version
    del model.metadata_props[:]
    model.metadata_props.extend(raw.metadata_props)
    return model, e


def narrow(surgeon, surgery) -> set[tuple[str, int]]:
    """DequantizeLinear whose result is only cast to float16 takes float16 scales: its type is that of its scales.

    So codes reach a product without a cast between, and those of both operands have scales of one type, as TensorRT
    wants. Codes of weights whose scales float16 would blur (below its smallest normal number) become numbers in
    float16; returned are the (node, input) that read such numbers.
    """
    half = needs("onnx", "tensorrt").TensorProto.FLOAT16
    numbers: set[tuple[str, int]] = set()
    for node in [n for n in surgery.nodes if n.op == "DequantizeLinear"]:
        codes, scale, (real,) = node.inputs[0], node.inputs[1], node.outputs
        casts = list(real.outputs)
        narrows = lambda c: c.op == "Cast" and c.attrs["to"] == half and c.outputs[0] not in surgery.outputs
        if not casts or not all(map(narrows, casts)) or real in surgery.outputs:
            continue
        if not isinstance(scale, surgeon.Constant) or scale.values.dtype != np.float32:
            continue
        if scale.values.min() >= LEAST and scale.values.max() <= LARGEST:
            node.inputs[1] = surgeon.Constant(f"{scale.name}.for.{node.name}", scale.values.astype(np.float16))
            real.dtype = np.float16
        elif isinstance(codes, surgeon.Constant):
            real = surgeon.Constant(f"{codes.name}.f16", _numbers(codes.values, scale.values, node.attrs.get("axis")))
            numbers |= {(r.name, i) for c in casts for r in c.outputs[0].outputs for i in _reads(r, c.outputs[0])}
        else:
            continue
        for cast in casts:
            for reader in list(cast.outputs[0].outputs):
                reader.inputs = [real if v is cast.outputs[0] else v for v in reader.inputs]
            cast.inputs.clear()
    return numbers


def _numbers(codes: np.ndarray, scale: np.ndarray, axis: int | None) -> np.ndarray:
    shape = [-1 if i == axis else 1 for i in range(codes.ndim)] if scale.ndim else []
    return (codes.astype(np.float32) * scale.reshape(shape)).astype(np.float16)


def _reads(node, tensor) -> list[int]:
    return [i for i, v in enumerate(node.inputs) if v is tensor]


def save(model, path: Path, external_above: int) -> None:
    """Write the model; weights beyond `external_above` bytes together go to `<path>.data`."""
    onnx = needs("onnx", "tensorrt")
    large = sum(len(t.raw_data) for t in model.graph.initializer) > external_above
    more = {"save_as_external_data": True, "location": path.name + ".data", "size_threshold": 1024}
    onnx.save_model(model, path, **(more if large else {}))

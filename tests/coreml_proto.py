"""Writes small Core ML packages message by message, right or wrong on purpose, without coremltools' builder."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from speechc.lowering.coreml.mil_file import protocol

NUMBERS = {"bool": 1, "string": 2, "fp16": 10, "fp32": 11, "int8": 21, "int32": 23, "int4": 25, "uint8": 31}
ARRAYS = {"fp16": 65552, "fp32": 65568, "int32": 131104, "fp64": 65600}
BLOBS = {"fp16": 1, "fp32": 2, "uint8": 3, "int8": 4, "int4": 8}
NAMES = {"float16": "fp16", "float32": "fp32", "bool": "bool", "int32": "int32", "int8": "int8", "uint8": "uint8"}


def typed(message, dtype, shape=()):
    """A tensor type of `shape`, None where the size is not known; a shape of None has no known rank."""
    tensor = message.tensorType
    tensor.dataType = NUMBERS[dtype]
    if shape is None:
        tensor.rank = -1
        return
    tensor.rank = len(shape)
    for size in shape:
        dimension = tensor.dimensions.add()
        if size is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = size


class Writer:
    """A package under construction; `op` adds an op with its constants, `save` writes the folder."""

    def __init__(self, opset=18):
        self.messages = protocol()
        self.spec = self.messages.Model(specificationVersion=opset - 9)
        self.function = self.spec.mlProgram.functions["main"]
        self.function.opset = f"CoreML{opset - 10}"
        self.block = self.function.block_specializations[self.function.opset]
        self.blobs = struct.pack("<II56x", 0, 2)

    def input(self, name, dtype, shape, ranges=None, choices=None, declared=None):
        feature = self.spec.description.input.add(name=name)
        array = feature.type.multiArrayType
        array.dataType = ARRAYS.get(declared or dtype, 0)
        array.shape.extend(s or 1 for s in shape)
        for low, high in ranges or ():
            array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
        for choice in choices or ():
            array.enumeratedShapes.shapes.add(shape=choice)
        parameter = self.function.inputs.add(name=name)
        typed(parameter.type, dtype, shape)
        return name

    def state(self, name, dtype, shape):
        array = self.spec.description.state.add(name=name).type.stateType.arrayType
        array.dataType = ARRAYS[dtype]
        array.shape.extend(shape)
        parameter = self.function.inputs.add(name=name)
        typed(parameter.type.stateType.wrappedType, dtype, shape)
        return name

    def output(self, name, dtype):
        self.spec.description.output.add(name=name).type.multiArrayType.dataType = ARRAYS.get(dtype, 0)
        self.block.outputs.append(name)

    def constant(self, value, block=None) -> str:
        """A const op for a number, an array or a text; its name."""
        block = block or self.block
        name = f"c{len(block.operations)}_{id(block) % 997}"
        op = block.operations.add(type="const")
        out = op.outputs.add(name=name)
        held = op.attributes["val"]
        if isinstance(value, str):
            typed(out.type, "string")
            typed(held.type, "string")
            held.immediateValue.tensor.strings.values.append(value)
            return name
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        array = array.astype(np.int32) if array.dtype == np.int64 else array
        dtype = NAMES[str(array.dtype)]
        typed(out.type, dtype, array.shape)
        typed(held.type, dtype, array.shape)
        tensor = held.immediateValue.tensor
        if dtype == "fp32":
            tensor.floats.values.extend(array.ravel().tolist())
        elif dtype == "int32":
            tensor.ints.values.extend(array.ravel().tolist())
        elif dtype == "bool":
            tensor.bools.values.extend(array.ravel().tolist())
        else:
            tensor.bytes.values = array.tobytes()
        return name

    def weight(self, array, dtype=None, packed=None, sentinel=0xDEADBEEF) -> str:
        """A const op whose value is in the blob file; `packed` are its bytes where they are not the array's own."""
        dtype, data = dtype or NAMES[str(array.dtype)], array.tobytes() if packed is None else packed
        at = len(self.blobs)
        self.blobs += struct.pack("<IIQQ40x", sentinel, BLOBS[dtype], len(data), at + 64) + data
        self.blobs += b"\0" * (-len(self.blobs) % 64)
        name = f"w{len(self.block.operations)}"
        op = self.block.operations.add(type="const")
        typed(op.outputs.add(name=name).type, dtype, array.shape)
        held = op.attributes["val"]
        typed(held.type, dtype, array.shape)
        held.blobFileValue.fileName, held.blobFileValue.offset = "@model_path/weights/weight.bin", at
        return name

    def op(self, kind, outputs, block=None, **inputs) -> str:
        """An op; operands are names of values, or numbers, arrays and ("text",) which become constants."""
        block = block or self.block
        bound = {}
        for parameter, value in inputs.items():
            values = value if isinstance(value, list) else [value]
            bound[parameter] = [v if isinstance(v, str) else self._constant(v, block) for v in values]
        op = block.operations.add(type=kind)
        for parameter, names in bound.items():
            for name in names:
                op.inputs[parameter].arguments.add(name=name)
        for name, (dtype, shape) in outputs.items():
            typed(op.outputs.add(name=name).type, dtype, shape)
        self.last = op
        return next(iter(outputs), "")

    def _constant(self, value, block) -> str:
        return self.constant(value[0] if isinstance(value, tuple) else value, block)

    def save(self, folder: Path) -> Path:
        path = folder / "m.mlpackage"
        inside = path / "Data" / "com.apple.CoreML"
        (inside / "weights").mkdir(parents=True)
        (inside / "model.mlmodel").write_bytes(self.spec.SerializeToString())
        (inside / "weights" / "weight.bin").write_bytes(self.blobs)
        manifest = {"itemInfoEntries": {"r": {"path": "com.apple.CoreML/model.mlmodel"}}, "rootModelIdentifier": "r"}
        (path / "Manifest.json").write_text(json.dumps(manifest))
        return path

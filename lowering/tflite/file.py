"""A TFLite file in the making, written straight from its flatbuffer schema: buffers, tensors, operators, signatures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import UnsupportedError
from ..target import needs

LIMIT = 2**31 - 2**16  # flatbuffer offsets are signed 32-bit
ALIGN = 16  # bytes, as the schema demands of buffers

TYPES = {
    "f32": "FLOAT32", "f16": "FLOAT16", "i8": "INT8", "u8": "UINT8", "i16": "INT16", "i32": "INT32", "i64": "INT64",
    "bool": "BOOL",
}  # fmt: skip


class Buffer:
    """The bytes of a constant, packed in one copy (the schema's own `BufferT` does not align them)."""

    def __init__(self, array: np.ndarray | None):
        self.array = array

    def Pack(self, builder):
        from ai_edge_litert import schema_py_generated as schema

        offset = None
        if self.array is not None:
            data = np.ascontiguousarray(self.array).reshape(-1).view(np.uint8)
            builder.StartVector(1, data.nbytes, ALIGN)
            builder.head -= data.nbytes
            builder.Bytes[builder.head : builder.head + data.nbytes] = memoryview(data)
            offset = builder.EndVector()
        schema.BufferStart(builder)
        if offset is not None:
            schema.BufferAddData(builder, offset)
        return schema.BufferEnd(builder)


class File:
    """Collects what a file holds; `write` lays it out. Buffers of equal arrays are stored once."""

    def __init__(self):
        self.schema = needs("ai_edge_litert.schema_py_generated", "tflite")
        self.buffers = [Buffer(None)]
        self.subgraphs: list[Any] = []
        self.signatures: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._known: dict[tuple, int] = {}

    @cached_property
    def builtin(self) -> dict[str, int]:
        return {k: v for k, v in vars(self.schema.BuiltinOperator).items() if isinstance(v, int)}

    def buffer(self, array: np.ndarray) -> int:
        """The index of a buffer holding `array`."""
        small = array.nbytes <= 4096
        key = (array.dtype.str, array.shape, array.tobytes()) if small else (id(array),)
        if key not in self._known:
            self.buffers.append(Buffer(array))  # keeps the array, so that its id stays taken
            self._known[key] = len(self.buffers) - 1
        return self._known[key]

    def code(self, name: str, version: int = 1) -> int:
        """The index of an operator code."""
        return self._codes.setdefault((self.builtin[name], version), len(self._codes))

    def subgraph(self, name: str) -> int:
        """The index of a new, empty subgraph."""
        s = self.schema
        self.subgraphs.append(s.SubGraphT(name=name, tensors=[], inputs=[], outputs=[], operators=[]))
        return len(self.subgraphs) - 1

    def signature(self, key: str, subgraph: int, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        """Give a subgraph's inputs and outputs (tensor indices) names that a caller uses."""
        s = self.schema

        def maps(ports: dict[str, int]):
            return [s.TensorMapT(name=n, tensorIndex=i) for n, i in ports.items()]

        self.signatures.append(
            s.SignatureDefT(signatureKey=key, subgraphIndex=subgraph, inputs=maps(inputs), outputs=maps(outputs))
        )

    def tensor(
        self,
        subgraph: int,
        name: str,
        dtype: str,
        shape: Sequence[int],
        signature: Sequence[int] | None = None,
        buffer: int = 0,
        quant: tuple[np.ndarray, np.ndarray, int] | None = None,
        variable: bool = False,
    ) -> int:
        """Add a tensor and give its index; `quant` is (scales, zero points, axis), `signature` has -1 for unknown."""
        s = self.schema
        t = s.TensorT(name=name, type=getattr(s.TensorType, TYPES[dtype]), shape=np.asarray(shape, np.int32),
                      buffer=buffer, isVariable=variable, hasRank=True)  # fmt: skip
        if signature is not None:
            t.shapeSignature = np.asarray(signature, np.int32)
        if quant is not None:
            scales, zeros, axis = quant
            t.quantization = s.QuantizationParametersT(
                scale=np.asarray(scales, np.float32), zeroPoint=np.asarray(zeros, np.int64), quantizedDimension=axis
            )
        tensors = self.subgraphs[subgraph].tensors
        tensors.append(t)
        return len(tensors) - 1

    def operator(
        self,
        subgraph: int,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str | None = None,
        fields: dict[str, Any] | None = None,
        version: int = 1,
        mutable: Sequence[bool] | None = None,
    ) -> None:
        """Add an operator; `options` names its options table (`"Conv2DOptions"`), `fields` what that holds."""
        s = self.schema
        o = s.OperatorT(opcodeIndex=self.code(name, version), inputs=np.asarray(inputs, np.int32),
                        outputs=np.asarray(outputs, np.int32))  # fmt: skip
        if options is not None:
            o.builtinOptionsType = getattr(s.BuiltinOptions, options)
            table = getattr(s, options + "T")()
            for field, value in (fields or {}).items():
                if not hasattr(table, field):
                    raise TypeError(f"{options} has no field {field}")
                setattr(table, field, value)
            o.builtinOptions = table
        if mutable is not None:
            o.mutatingVariableInputs = list(mutable)
        self.subgraphs[subgraph].operators.append(o)

    def write(self, path: Path, description: str) -> None:
        """Write the file at `path`; constants that nothing reads are left out. `OSError` where it cannot be written."""
        flatbuffers = needs("flatbuffers", "tflite")
        s = self.schema
        used = {t.buffer for g in self.subgraphs for t in g.tensors}
        for i, b in enumerate(self.buffers):
            if i not in used:
                b.array = None  # a weight of which only a rearranged copy is read
        payload = sum(b.array.nbytes + ALIGN for b in self.buffers if b.array is not None)
        if payload > LIMIT:
            raise UnsupportedError(
                "SC314",
                f"the constants take {payload / 2**30:.2f} GiB; a TFLite file holds less than 2 GiB",
                hints=["--int8 (a quarter of the size) or --fp16 (half of it)", "--target onnx"],
            )
        codes = [s.OperatorCodeT(builtinCode=b, deprecatedBuiltinCode=min(b, 127), version=v) for b, v in self._codes]
        model = s.ModelT(version=3, operatorCodes=codes, subgraphs=self.subgraphs, buffers=self.buffers,
                         description=description, signatureDefs=self.signatures)  # fmt: skip
        structure = 4096 + sum(512 * (len(g.tensors) + len(g.operators)) for g in self.subgraphs)
        builder = _sharing(flatbuffers.Builder)(payload + structure)
        builder.Finish(model.Pack(builder), b"TFL3")
        with path.open("wb") as out:
            out.write(memoryview(builder.Bytes)[builder.head :])


def _sharing(base: type) -> type:
    """A flatbuffer builder that stores equal vectors once (zero points of weights are thousands of zeros)."""

    class Sharing(base):
        def __init__(self, size: int):
            super().__init__(size)
            self.vectors: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x):
            key = (x.dtype.str, x.tobytes())
            if key not in self.vectors:
                self.vectors[key] = super().CreateNumpyVector(x)
            return self.vectors[key]

    return Sharing

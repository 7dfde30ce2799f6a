"""A saved .mlpackage, read back: the interface it declares, its MIL functions as plain objects, and every weight.

Nothing of the builder or of coremltools' own loader takes part: the protobuf messages are read field by field, and the
blob file (version 2) byte by byte, so that a mistake made in writing cannot cancel itself out in reading.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np

from ...ir.errors import UnsupportedError, UsageError
from ..target import needs

ENTRY = np.dtype([("sentinel", "<u4"), ("dtype", "<u4"), ("bytes", "<u8"), ("offset", "<u8"), ("padding", "<u8")])
SENTINEL, VERSION = 0xDEADBEEF, 2
# MIL's names of element types, their width in bits, and the numpy type that holds them here.
TYPES = {
    "bool": (8, np.bool_), "fp16": (16, np.float16), "fp32": (32, np.float32), "fp64": (64, np.float64),
    "int8": (8, np.int8), "int16": (16, np.int16), "int32": (32, np.int32), "int64": (64, np.int64),
    "uint8": (8, np.uint8), "uint16": (16, np.uint16), "uint32": (32, np.uint32), "uint64": (64, np.uint64),
    "int4": (4, np.int8), "uint1": (1, np.uint8), "uint2": (2, np.uint8), "uint3": (3, np.uint8),
    "uint4": (4, np.uint8), "uint6": (6, np.uint8), "string": (0, np.str_),
}  # fmt: skip
PROTO_NAMES = {"FLOAT16": "fp16", "FLOAT32": "fp32", "FLOAT64": "fp64"}
ARRAY_TYPES = {65552: "fp16", 65568: "fp32", 131104: "int32", 65600: "fp64", 131080: "int8"}
OPSETS = {"CoreML5": 15, "CoreML6": 16, "CoreML7": 17, "CoreML8": 18, "CoreML9": 26}  # by iOS version
# What the blob file calls the types above, where it says so.
BLOB_TYPES = {
    1: "fp16", 2: "fp32", 3: "uint8", 4: "int8", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1", 10: "uint2",
    11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32",
}  # fmt: skip


def refuse(message: str, where: str, *hints: str) -> UnsupportedError:
    """SC331: the package is not what the format allows."""
    return UnsupportedError("SC331", message, [where], hints)


@dataclass(frozen=True)
class Type:
    """A value's type: MIL's element type and the sizes, None where they are not known; no sizes at all is unknown rank.

    `kind` is "tensor", "list" (of tensors) or "state" (wrapping a tensor).
    """

    dtype: str
    shape: tuple[int | None, ...] | None
    kind: str = "tensor"

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(TYPES[self.dtype][1])

    def __str__(self) -> str:
        sizes = "*" if self.shape is None else ", ".join("?" if s is None else str(s) for s in self.shape)
        return f"{'' if self.kind == 'tensor' else self.kind + ' of '}{self.dtype}[{sizes}]"


@dataclass
class Operation:
    """One op: operands by parameter (names of values, or values written in place), attributes, results, blocks."""

    kind: str
    inputs: dict[str, list]
    attributes: dict[str, object]
    outputs: list[tuple[str, Type]]
    blocks: list[Block] = field(default_factory=list)

    def __str__(self) -> str:
        name = self.attributes.get("name") or ", ".join(n for n, _ in self.outputs)
        return f"{name} ({self.kind})"


@dataclass
class Block:
    """Ops in order, with the values that they need from outside by position and the names that it returns."""

    inputs: list[tuple[str, Type]]
    outputs: list[str]
    operations: list[Operation]


@dataclass(frozen=True)
class Name:
    """An operand that refers to a value."""

    text: str


@dataclass(frozen=True)
class Port:
    """A declared input, output or state. `ranges` holds (least, most) per dimension, most None where there is no end;
    `choices` the shapes of an input that takes only some."""

    dtype: str
    shape: tuple[int | None, ...]
    ranges: tuple[tuple[int, int | None], ...] = ()
    choices: tuple[tuple[int, ...], ...] = ()


@dataclass
class Package:
    """What a package declares and holds. `opset` is the iOS version of the op set: 18 for "CoreML8"."""

    inputs: dict[str, Port]
    outputs: dict[str, Port]
    states: dict[str, Port]
    opset: int
    parameters: dict[str, Type]
    block: Block
    metadata: dict[str, str]


def protocol() -> ModuleType:
    """The module of Core ML's messages, without the rest of coremltools (which imports torch and tensorflow)."""
    if "coremltools" in sys.modules:
        return needs("coremltools.proto.Model_pb2", "coreml")
    alias = __name__ + ".messages"
    if alias not in sys.modules:
        found = importlib.util.find_spec("coremltools")
        if found is None:
            needs("coremltools", "coreml")
        package = ModuleType(alias)
        package.__path__ = [str(Path(place) / "proto") for place in found.submodule_search_locations]
        sys.modules[alias] = package
    return importlib.import_module(alias + ".Model_pb2")


def read(path: Path) -> Package:
    """Open a .mlpackage. Raises SC010 (no such folder), SC331 (not a package of an ML program that can be read)."""
    path = Path(path)
    if not path.is_dir():
        raise UsageError("SC010", f"there is no package {path}")
    model_path = _root(path)
    spec = protocol().Model()
    try:
        spec.ParseFromString(model_path.read_bytes())
    except Exception as error:  # protobuf's DecodeError; its class is not worth an import of google.protobuf
        raise refuse(f"the model is damaged: {error}", str(model_path)) from None
    if spec.WhichOneof("Type") != "mlProgram":
        raise refuse(f"the model is a {spec.WhichOneof('Type')}, not an ML program", str(model_path))
    functions = spec.mlProgram.functions
    name = spec.description.defaultFunctionName or "main"
    if name not in functions:
        raise refuse(f"there is no function {name}; there are {', '.join(functions)}", str(model_path))
    function = functions[name]
    reader = Reader(model_path)
    described = spec.description
    for entry in described.functions:  # a package of several functions describes each of them
        described = entry if entry.name == name else described
    opset = _opset(function.opset, spec.specificationVersion)
    return Package(
        {f.name: _port(f) for f in described.input},
        {f.name: _port(f) for f in described.output},
        {f.name: _port(f) for f in described.state},
        opset,
        {v.name: reader.type(v.type) for v in function.inputs},
        reader.block(function.block_specializations[function.opset]),
        dict(spec.description.metadata.userDefined),
    )


def _root(path: Path) -> Path:
    try:
        manifest = json.loads((path / "Manifest.json").read_text())
        return path / "Data" / manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (OSError, ValueError, KeyError) as error:
        raise refuse(f"Manifest.json does not say where the model is ({error!r})", str(path)) from None


def _opset(text: str, version: int) -> int:
    if text not in OPSETS:
        raise refuse(f"the op set {text} is not one of {', '.join(OPSETS)}", "main")
    needed = int(text.removeprefix("CoreML")) + 1
    if version < needed:
        raise refuse(f"the op set {text} needs specification {needed}, the package says {version}", "main")
    return OPSETS[text]


def _port(feature) -> Port:
    kind = feature.type.WhichOneof("Type")
    if kind == "stateType":
        array = feature.type.stateType.arrayType
    elif kind == "multiArrayType":
        array = feature.type.multiArrayType
    else:
        raise refuse(f"it is a {kind}, not an array", feature.name)
    dtype = ARRAY_TYPES.get(array.dataType, str(array.dataType))
    shape = tuple(array.shape)
    flexible = array.WhichOneof("ShapeFlexibility")
    if flexible == "shapeRange":
        # An upper bound of -1 is none.
        ranges = tuple((r.lowerBound, None if r.upperBound < 0 else r.upperBound) for r in array.shapeRange.sizeRanges)
        return Port(dtype, tuple(a if a == b else None for a, b in ranges), ranges)
    if flexible == "enumeratedShapes":
        choices = tuple(tuple(s.shape) for s in array.enumeratedShapes.shapes)
        return Port(dtype, tuple(s[0] if len(set(s)) == 1 else None for s in zip(*choices)), (), choices)
    return Port(dtype, shape)


class Reader:
    """Turns messages into the objects above. Weights stay on the disk, mapped into memory, until they are used."""

    def __init__(self, model: Path):
        self.model = model
        self.blobs: dict[str, np.ndarray] = {}
        self.names = {v: n for n, v in protocol().MIL__pb2.DataType.items()}

    def type(self, message) -> Type:
        kind = message.WhichOneof("type")
        if kind == "stateType":
            inner = self.type(message.stateType.wrappedType)
            return Type(inner.dtype, inner.shape, "state")
        if kind == "listType":
            inner = self.type(message.listType.type)
            return Type(inner.dtype, inner.shape, "list")
        if kind != "tensorType":
            raise refuse(f"a value of type {kind} is not known", str(self.model))
        tensor = message.tensorType
        name = self.names[tensor.dataType]
        dtype = PROTO_NAMES.get(name, name.lower())
        if dtype not in TYPES:
            raise refuse(f"the element type {dtype} is not known", str(self.model))
        if tensor.rank < 0 or any(d.unknown.variadic for d in tensor.dimensions):
            return Type(dtype, None)
        sizes = (d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions)
        return Type(dtype, tuple(sizes))

    def block(self, message) -> Block:
        inputs = [(v.name, self.type(v.type)) for v in message.inputs]
        return Block(inputs, list(message.outputs), [self.operation(o) for o in message.operations])

    def operation(self, message) -> Operation:
        return Operation(
            message.type,
            {n: [self._operand(b) for b in a.arguments] for n, a in message.inputs.items()},
            {n: self.value(v) for n, v in message.attributes.items()},
            [(v.name, self.type(v.type)) for v in message.outputs],
            [self.block(b) for b in message.blocks],
        )

    def _operand(self, binding) -> object:
        return Name(binding.name) if binding.WhichOneof("binding") == "name" else self.value(binding.value)

    def value(self, message) -> object:
        """A constant: an array (text: a str, or a list of them), from the message or from the blob file."""
        kind = self.type(message.type)
        if message.WhichOneof("value") == "blobFileValue":
            return self._blob(message.blobFileValue, kind)
        inner = message.immediateValue
        if inner.WhichOneof("value") == "list":
            return [self.value(v) for v in inner.list.values]
        return self._immediate(inner.tensor, kind)

    def _immediate(self, tensor, kind: Type) -> object:
        held = tensor.WhichOneof("value")
        if held is None:  # an array without elements
            return np.zeros(kind.shape, kind.numpy)
        values = getattr(tensor, held).values
        if held == "strings":
            return values[0] if kind.shape == () else list(values)
        if held == "bytes":
            return unpack(np.frombuffer(values, np.uint8), kind)
        found = np.array(list(values)).astype(kind.numpy)
        count = int(np.prod(kind.shape))
        # Some writers give one element for an array of equal ones.
        return (np.broadcast_to(found, (count,)) if found.size == 1 else found).reshape(kind.shape)

    def _blob(self, message, kind: Type) -> np.ndarray:
        name = message.fileName.replace("@model_path", str(self.model.parent))
        if name not in self.blobs:
            path = Path(name)
            if not path.exists():
                raise refuse("the weights are missing", name)
            self.blobs[name] = np.memmap(path, np.uint8, "r")
            version = int(self.blobs[name][4:8].view("<u4")[0])
            if version != VERSION:
                raise refuse(f"the weights are of version {version}, not {VERSION}", name)
        data, at = self.blobs[name], message.offset
        if at + ENTRY.itemsize > len(data):
            raise refuse(f"the weights end before offset {at}", name)
        entry = data[at : at + ENTRY.itemsize].view(ENTRY)[0]
        if entry["sentinel"] != SENTINEL:
            raise refuse(f"there is no weight at offset {at}", name)
        stored = BLOB_TYPES.get(int(entry["dtype"]))
        if stored != kind.dtype and not (kind.dtype == "bool" and stored in ("uint8", "int8")):
            raise refuse(f"the weight at offset {at} is {stored}, the program says {kind.dtype}", name)
        begin, size = int(entry["offset"]), int(entry["bytes"])
        if begin + size > len(data):
            raise refuse(f"the weights end inside the one at offset {at}", name)
        return unpack(data[begin : begin + size], kind)


def unpack(data: np.ndarray, kind: Type) -> np.ndarray:
    """Elements out of bytes; those of fewer than eight bits are packed from the least significant bit on."""
    bits, dtype = TYPES[kind.dtype]
    count = int(np.prod(kind.shape, dtype=np.int64))
    if len(data) != -(-count * bits // 8):
        raise refuse(f"{len(data)} bytes do not hold {kind}", "weights")
    if bits >= 8:
        return data.view(np.dtype(dtype).newbyteorder("<")).reshape(kind.shape)
    places = np.unpackbits(np.asarray(data), bitorder="little")[: count * bits].reshape(count, bits)
    values = places @ (1 << np.arange(bits))
    if np.dtype(dtype).kind == "i":
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values.astype(dtype).reshape(kind.shape)


def walk(block: Block) -> Iterator[Operation]:
    """Every op of a block and of the blocks inside, in order."""
    for op in block.operations:
        yield op
        for inner in op.blocks:
            yield from walk(inner)

"""The network that TensorRT's parser made of a model, read back layer by layer: types, and Q/DQ around products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ...ir.errors import NumericalError
from .emit import Asked

TYPE_OF = {"FLOAT": "f32", "HALF": "f16", "INT8": "i8", "INT32": "i32", "INT64": "i64", "BOOL": "bool", "UINT8": "u8"}
# Layers that pass numbers on as they are, or in another type.
MOVES = frozenset({"SHUFFLE", "IDENTITY", "SQUEEZE", "UNSQUEEZE", "CAST"})


@dataclass(frozen=True)
class Layer:
    """A layer of the network: its name, its type, and the names and element types of its inputs and outputs."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass
class Network:
    """The layers of a parsed network in order, and which layer makes a tensor."""

    layers: list[Layer]
    makers: dict[str, Layer] = field(default_factory=dict)

    def __post_init__(self):
        self.makers = {name: layer for layer in self.layers for name in layer.outputs}

    def named(self, node: str) -> Layer | None:
        """The layer that carries out the ONNX node of that name."""
        return next((layer for layer in self.layers if layer.name == node), None)

    def origin(self, tensor: str) -> Layer | None:
        """The layer that computes a tensor, behind those that only move or cast it; None for an input."""
        maker = self.makers.get(tensor)
        while maker is not None and maker.kind in MOVES:
            maker = self.makers.get(maker.inputs[0])
        return maker

    def summary(self) -> dict[str, int]:
        """How many layers of each kind and result type there are: `{"MATRIX_MULTIPLY f16": 12}`."""
        counts = Counter(f"{layer.kind} {layer.writes[0]}" for layer in self.layers if layer.writes)
        return dict(sorted(counts.items()))


def read(network) -> Network:
    """The layers of a parsed `INetworkDefinition`."""
    return Network([_layer(network.get_layer(i)) for i in range(network.num_layers)])


def _layer(layer) -> Layer:
    inputs = [t for t in map(layer.get_input, range(layer.num_inputs)) if t is not None]
    outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
    named = lambda tensors: tuple(t.name for t in tensors)
    types = lambda tensors: tuple(TYPE_OF.get(t.dtype.name, t.dtype.name) for t in tensors)
    return Layer(layer.name, layer.type.name, named(inputs), named(outputs), types(inputs), types(outputs))


def hold(network: Network, asked: Iterable[Asked]) -> None:
    """Raise `NumericalError` SC520 where a product is not of the type, or not between the Q/DQ, that was asked for."""
    wrong = [f"{a.place}: {why}" for a in asked if (why := _differs(network, a))]
    if wrong:
        text = f"{len(wrong)} products of the parsed network are not what the graph asks for"
        raise NumericalError("SC520", text, wrong)


def _differs(network: Network, asked: Asked) -> str | None:
    layer = network.named(asked.node)
    if layer is None:
        return f"{asked.node} is no layer of the network"
    if layer.writes[0] != asked.dtype:
        return f"{layer.kind} computes in {layer.writes[0]}, not {asked.dtype}"
    for tensor, wanted in zip(layer.inputs, asked.dequantized):
        origin = network.origin(tensor)
        found = origin is not None and origin.kind == "DEQUANTIZE"
        if found != wanted:
            made = "an input" if origin is None else f"a {origin.kind} layer"
            return f"{layer.kind} reads {made} where the graph has {'a' if wanted else 'no'} dequantize"
    return None

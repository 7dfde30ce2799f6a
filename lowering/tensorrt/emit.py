"""A graph as strongly typed ONNX: explicit casts, Q/DQ around zero, float biases, and what the network must show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ...ir.graph import Graph, Value
from ...ir.types import DTYPES
from ..onnx.emit import Emitter
from .lower import load_all

# ONNX nodes that do the arithmetic of an op, by its kind.
PRODUCTS = {
    **dict.fromkeys(("linear", "matmul"), "MatMul"),
    "attention": "MatMul",
    "conv": "Conv",
    "conv_transpose": "ConvTranspose",
}
MOVES = frozenset({"reshape", "transpose", "cast", "retime"})
# TensorRT wants two dimensions for these; a vector becomes a matrix of one row.
ROWS = ("Softmax", "LogSoftmax", "ArgMax")
LOOPS = ("LSTM", "GRU", "RNN")
ONNX_MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity"})


@dataclass(frozen=True)
class Asked:
    """What a product in the network must look like: its element type, and which operands arrive dequantized."""

    node: str
    place: str
    dtype: str
    dequantized: tuple[bool, ...]

    def without(self, inputs: Iterable[int]) -> Asked:
        """The same, where these operands became plain numbers."""
        plain = set(inputs)
        return replace(self, dequantized=tuple(d and i not in plain for i, d in enumerate(self.dequantized)))


class StrongEmitter(Emitter):
    """ONNX for TensorRT. `places` says of every node where it comes from, `asked` what the products must be."""

    defaults = False  # a state is a binding: TensorRT takes an input with a default for a constant

    def __init__(self, graph: Graph):
        super().__init__(graph, load_all())
        self.places: dict[str, str] = {}
        self.asked: list[Asked] = []

    def node(self, kind: str, inputs: Iterable, outputs: int = 1, **attrs):
        if kind in ROWS and self.op is not None and self.op.operands[0].type.rank == 1:
            return self._row(kind, list(inputs), **attrs)
        if kind in LOOPS:
            inputs = self._behind_product(list(inputs))
        return self._placed(kind, inputs, outputs, **attrs)

    def _placed(self, kind: str, inputs: Iterable, outputs: int = 1, **attrs):
        made = super().node(kind, inputs, outputs, **attrs)
        name = self.nodes[-1].name
        self.places[name] = str(self.loc)
        if self.op is not None and PRODUCTS.get(self.op.kind) == kind:
            read = tuple(_reads_codes(v) for v in self.op.operands[:2])
            self.asked.append(Asked(name, str(self.loc), self.op.result.type.dtype, read))
        return made

    def _behind_product(self, inputs: list) -> list:
        """A cast in front of a loop stays there: TensorRT-RTX 1.7 draws it into the loop, where its shape is wrong."""
        frames = self.value(inputs[0])
        maker = frames.producer()
        while maker is not None and maker.op_type in ONNX_MOVES:
            maker = maker.inputs[0].producer()
        if maker is None or maker.op_type != "Cast":
            return inputs
        x = self.op.operands[0]
        ones = np.ones(x.type.sizes[-1], DTYPES[x.type.dtype])  # a single 1 would be dropped
        return [self._placed("Mul", [frames, ones]), *inputs[1:]]

    def _row(self, kind: str, inputs: list, axis: int, **attrs):
        row = self._placed("Unsqueeze", [inputs[0], np.array([0], np.int64)])
        y = self._placed(kind, [row], axis=1, **attrs)  # [1, n]; of a reduction [1, 1], or [1] without its dimension
        return self._placed("Squeeze", [y, np.array([0], np.int64)])


def _reads_codes(v: Value | None) -> bool:
    """Whether `v` is dequantized, and at most moved or cast since."""
    while v is not None and v.op is not None and v.op.kind in MOVES:
        v = v.op.operands[0]
    return v is not None and v.op is not None and v.op.kind == "dequantize"

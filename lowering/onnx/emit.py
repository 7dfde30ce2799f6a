"""A graph as an ONNX model in memory: walks the ops, asks each one's lowering for nodes, keeps names and constants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager

import numpy as np

from ... import __version__
from ...ir.expr import Expr
from ...ir.graph import Graph, Loc, Op, Value
from ...ir.types import Tensor
from ...ir.weights import Weight
from ..names import Names
from ..target import needs
from .lower import BASE_OPSET, Lowering, load_all
from .names import folder
from .sizes import Sizes

ONNX_TYPE = {"f32": "FLOAT", "f16": "FLOAT16", "f64": "DOUBLE", "i4": "INT4", "i8": "INT8", "u8": "UINT8",
             "i16": "INT16", "i32": "INT32", "i64": "INT64", "bool": "BOOL"}  # fmt: skip
THEN = {"relu": "Relu"}  # the activations of the attribute `then`
IR_VERSION = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12}


class Emitter:
    """The ONNX graph being built. Lowerings call `node` with IR values, ONNX values or arrays as inputs.

    `table` holds the lowerings (ONNX's own by default). With `defaults` a state that starts from stored values is an
    input that may be left out.
    """

    defaults = True

    def __init__(self, graph: Graph, table: Mapping[str, Lowering] | None = None):
        self.graph = graph
        self.onnx = needs("onnx_ir", "onnx")
        self.table = load_all() if table is None else table
        self.opset = max([BASE_OPSET, *(self.table[op.kind].opset(op) for op in graph.ops)])
        self.names = Names()
        self.nodes: list = []
        self.initializers: dict[str, object] = {}
        self.loc = Loc("")
        self.op: Op | None = None
        self.sizes = Sizes(self)
        self.cache: dict = {}  # for lowerings: what several ops share, such as one mask
        self.written: dict[str, object] = {}  # by state: what it becomes
        self._values: dict[int, object] = {}
        self._constants: dict = {}
        self._ports: list[Value] = []
        self.inputs: list = []
        self.outputs: list = []

    # -- the graph -------------------------------------------------------------------------------------------------
    def run(self) -> Emitter:
        """Emit the whole graph."""
        for name in (*(v.name for v in self.graph.inputs), *self.graph.output_names):
            self.names.claim(name)
        for name in self.graph.states:
            self.names.claim(f"state.{name}")
            self.names.claim(f"state.{name}.out")
        for v in self.graph.inputs:
            self._port(v, v.name)
        for name, v in self.graph.states.items():
            port = self._port(v, f"state.{name}")
            if self.defaults and isinstance(
                v.payload.initial, Weight
            ):  # an input with a default: what the first call reads
                weight = v.payload.initial
                port.const_value = self._lazy(port.name, weight.type, lambda w=weight: w.array)
                self.initializers[port.name] = port
        for op in self.graph.ops:
            self.op, self.loc = op, op.loc
            attrs = dict(op.attrs)
            then = attrs.pop("then", None)
            made = self.table[op.kind].build(self, *op.operands, **attrs)
            if then:
                first, *rest = made if isinstance(made, tuple) else (made,)
                made = (self.node(THEN[then], [first]), *rest)
            for r, value in zip(op.results, made if isinstance(made, tuple) else (made,), strict=True):
                self._values[id(r)] = value
        self.op, self.loc = None, Loc("")
        for v, name in zip(self.graph.outputs, self.graph.output_names):
            self._end(self.value(v), v.type, name)
        for name, v in self.graph.states.items():
            self._end(self.value(self.written.get(name, v)), v.type, f"state.{name}.out")
        return self

    def model(self, metadata: dict[str, str]):
        """The onnx_ir model."""
        graph = self.onnx.Graph(
            self.inputs, self.outputs, nodes=self.nodes, initializers=list(self.initializers.values()),
            opset_imports={"": self.opset}, name=self.graph.name,
        )  # fmt: skip
        return self.onnx.Model(
            graph, ir_version=IR_VERSION[self.opset], producer_name="speechc", producer_version=__version__,
            metadata_props=metadata,
        )  # fmt: skip

    def _port(self, v: Value, name: str):
        port = self.onnx.Value(name=name, type=self.tensor_type(v.type), shape=self.shape(v.type))
        self._values[id(v)] = port
        self.inputs.append(port)
        return port

    def _end(self, value, type: Tensor, name: str) -> None:
        """Make `value` the output `name`; what is an input, a constant or an output already goes through Identity."""
        plain = value.producer() is not None and not any(value is o for o in self.outputs)
        if not plain or value.producer().op_type == "Identity":
            value = self.node("Identity", [value])
        value.name = name
        value.type, value.shape = self.tensor_type(type), self.shape(type)
        self.outputs.append(value)

    def tensor_type(self, type: Tensor | str):
        name = type if isinstance(type, str) else type.dtype
        return self.onnx.TensorType(self.onnx.DataType[ONNX_TYPE[name]])

    def shape(self, type: Tensor):
        return self.onnx.Shape([s if isinstance(s, int) else str(s) for s in type.sizes])

    # -- values ----------------------------------------------------------------------------------------------------
    def value(self, v):
        """The ONNX value of an IR value, an array or an ONNX value; None stays None."""
        if isinstance(v, Value):
            if v.kind == "weight":
                return self.weight(v)
            if v.kind == "const":
                return self.constant(v.payload)
            return self._values[id(v)]
        return self.constant(v) if isinstance(v, (np.ndarray, np.generic)) else v

    __call__ = value

    def constant(self, array: np.ndarray, hint: str = ""):
        """A small constant; equal ones are one initializer."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = hint or f"const.{array.dtype}." + ("_".join(map(str, array.ravel())) if array.size < 4 else "table")
            self._constants[key] = self._initializer(self.names.claim(name), self.onnx.tensor(array))
        return self._constants[key]

    def weight(
        self, v: Value, form: str = "", change: Callable[[np.ndarray], np.ndarray] | None = None, shape=None, dtype=None
    ):
        """A weight as an initializer under its own name; or `change(its array)` (`shape`, `dtype`) as `name.form`.

        The array is looked at, changed and forgotten when the file is written.
        """
        key = (v.name, form)
        if key not in self._constants:
            weight = v.payload if v.kind == "weight" else self.graph.weights[v.name]
            name = self.names.claim(f"{weight.name}.{form}" if form else weight.name)
            type = weight.type if shape is None else Tensor(dtype or weight.type.dtype, shape)
            load = (lambda: change(weight.array)) if change else (lambda: weight.array)
            self._constants[key] = self._initializer(name, self._lazy(name, type, load))
        return self._constants[key]

    def scale(self, name: str):
        """The scales of a per-channel weight, by name."""
        return self.value(self.graph.weight(name))

    def _lazy(self, name: str, type: Tensor, load: Callable[[], np.ndarray]):
        dtype = self.onnx.DataType[ONNX_TYPE[type.dtype]]
        shape = self.onnx.Shape(list(type.sizes))

        def tensor():
            array = load()
            if type.dtype == "i4":
                import ml_dtypes

                array = array.astype(ml_dtypes.int4)
            return self.onnx.Tensor(np.ascontiguousarray(array), dtype=dtype, shape=shape, name=name)

        return self.onnx.LazyTensor(tensor, dtype=dtype, shape=shape, name=name, cache=False)

    def _initializer(self, name: str, tensor):
        value = self.onnx.Value(
            name=name, type=self.onnx.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor
        )
        tensor.name = name
        self.initializers[name] = value
        return value

    # -- nodes -----------------------------------------------------------------------------------------------------
    def node(self, kind: str, inputs: Iterable, outputs: int = 1, **attrs):
        """Add a node at the current place; returns its output, or a tuple of them."""
        name = self.names.claim(f"{folder(self.loc.path)}/{kind}")
        attrs = {k: v for k, v in attrs.items() if v is not None}
        node = self.onnx.node(kind, [self.value(v) for v in inputs], attrs, num_outputs=outputs, name=name)
        for i, out in enumerate(node.outputs):  # nodes and values are named apart: one name serves both
            out.name = name if outputs == 1 else self.names.claim(f"{name}.{i}")
        self.nodes.append(node)
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    @contextmanager
    def located(self, path: str):
        """Name the nodes built inside after `path`."""
        self.loc, old = Loc(path), self.loc
        try:
            yield
        finally:
            self.loc = old

    def body(self, inputs: Iterable[tuple[str, str, Iterable]], build: Callable):
        """A subgraph: `build(*values)` gives its outputs; inputs are (name, dtype, sizes)."""
        outer, self.nodes = self.nodes, []
        try:
            values = [
                self.onnx.Value(name=self.names.claim(f"{folder(self.loc.path)}/{n}"), type=self.tensor_type(t),
                                shape=self.onnx.Shape([s if isinstance(s, int) else str(s) for s in sizes]))
                for n, t, sizes in inputs
            ]  # fmt: skip
            outputs = build(*values)
            name = self.names.claim(f"{folder(self.loc.path)}/body")
            return self.onnx.Graph(values, outputs, nodes=self.nodes, name=name)
        finally:
            self.nodes = outer

    # -- what many lowerings need ----------------------------------------------------------------------------------
    def reduce(self, kind: str, x, axes: Iterable[int], keepdims: bool):
        """ReduceSum, ReduceMean, ReduceMax, ReduceMin: axes are an input (of all but ReduceSum: from opset 18)."""
        axes = [int(a) for a in axes]
        if kind == "ReduceSum" or self.opset >= 18:
            return self.node(kind, [x, np.array(axes, np.int64)], keepdims=int(keepdims))
        return self.node(kind, [x], axes=axes, keepdims=int(keepdims))

    def reshape(self, x, old: Iterable, new: Iterable):
        """`x` of sizes `old` as sizes `new`, with as little shape arithmetic as can be."""
        old, new = tuple(old), tuple(new)
        unknown = [i for i, s in enumerate(new) if isinstance(s, Expr)]
        shape = list(new)
        if 0 in new:
            attrs = {"allowzero": 1}
            return self.node("Reshape", [x, self.sizes.vector(new)], **(attrs if self.opset >= 14 else {}))
        copied = [i for i in unknown if i < len(old) and old[i] == new[i]]
        for i in copied if len(unknown) > 1 else []:
            shape[i] = 0
        left = [i for i in unknown if shape[i] != 0]
        if len(left) == 1:
            shape[left[0]] = -1
        if len(left) <= 1:
            return self.node("Reshape", [x, np.array(shape, np.int64)])
        return self.node("Reshape", [x, self.sizes.vector(new)])

    def cast(self, x, old: str, new: str):
        """`x` of element type `old` as `new`."""
        return x if old == new else self.node("Cast", [x], to=int(self.tensor_type(new).dtype))

    def number(self, value: float, like: Value | str) -> np.ndarray:
        """A literal of the element type of `like`."""
        from ...ir.types import DTYPES

        return np.array(value, DTYPES[like if isinstance(like, str) else like.type.dtype])

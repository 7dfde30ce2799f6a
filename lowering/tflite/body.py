"""A subgraph under construction: tensors that know their symbolic sizes, and one helper for each common operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...ir.expr import Size, evaluate, same
from ...ir.types import Quant, dtype_of
from .file import File

NONE = -1  # index of an optional operand that is left out

# Options table of each operator that has one (the schema's names are not regular enough to derive them).
OPTIONS = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "POW": "PowOptions",
    "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions", "FLOOR_DIV": "FloorDivOptions",
    "FLOOR_MOD": "FloorModOptions", "SQUARED_DIFFERENCE": "SquaredDifferenceOptions", "EQUAL": "EqualOptions",
    "LESS": "LessOptions", "LESS_EQUAL": "LessEqualOptions", "GREATER": "GreaterOptions",
    "LOGICAL_AND": "LogicalAndOptions", "LOGICAL_OR": "LogicalOrOptions", "LOGICAL_NOT": "LogicalNotOptions",
    "SELECT_V2": "SelectV2Options", "CAST": "CastOptions", "EXP": "ExpOptions", "COS": "CosOptions",
    "NEG": "NegOptions", "ABS": "AbsOptions", "SQUARE": "SquareOptions", "GELU": "GeluOptions", "SIGN": "SignOptions",
    "LEAKY_RELU": "LeakyReluOptions", "SOFTMAX": "SoftmaxOptions", "MEAN": "ReducerOptions", "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions", "REDUCE_MIN": "ReducerOptions", "REDUCE_ANY": "ReducerOptions",
    "ARG_MAX": "ArgMaxOptions", "CUMSUM": "CumsumOptions", "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions", "STRIDED_SLICE": "StridedSliceOptions", "CONCATENATION": "ConcatenationOptions",
    "PAD": "PadOptions", "PADV2": "PadV2Options", "MIRROR_PAD": "MirrorPadOptions", "GATHER": "GatherOptions",
    "REVERSE_V2": "ReverseV2Options", "TILE": "TileOptions", "BROADCAST_TO": "BroadcastToOptions",
    "RANGE": "RangeOptions", "SHAPE": "ShapeOptions", "PACK": "PackOptions", "EXPAND_DIMS": "ExpandDimsOptions",
    "SQUEEZE": "SqueezeOptions", "FULLY_CONNECTED": "FullyConnectedOptions", "BATCH_MATMUL": "BatchMatMulOptions",
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions", "QUANTIZE": "QuantizeOptions", "DEQUANTIZE": "DequantizeOptions",
    "WHILE": "WhileOptions", "DYNAMIC_UPDATE_SLICE": "DynamicUpdateSliceOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
}  # fmt: skip

# The least version of an operator whose definition covers float use, and int8 use; 1 where not listed.
VERSIONS = {
    "ADD": (1, 2), "SUB": (1, 2), "MUL": (1, 2), "MAXIMUM": (1, 2), "MINIMUM": (1, 2), "RELU": (1, 2),
    "LOGISTIC": (1, 2), "TANH": (1, 2), "SOFTMAX": (1, 2), "MEAN": (1, 2), "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (2, 3), "FULLY_CONNECTED": (5, 5), "BATCH_MATMUL": (1, 2), "CONCATENATION": (1, 2),
    "PAD": (1, 2), "PADV2": (1, 2), "RESHAPE": (1, 1), "TRANSPOSE": (1, 2), "STRIDED_SLICE": (1, 2),
    "AVERAGE_POOL_2D": (1, 2), "MAX_POOL_2D": (1, 2), "GATHER": (1, 2), "QUANTIZE": (1, 2), "DEQUANTIZE": (2, 2),
    "LEAKY_RELU": (1, 2), "BROADCAST_TO": (2, 2), "MIRROR_PAD": (1, 2), "REVERSE_V2": (2, 3), "GELU": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (1, 2), "REDUCE_MAX": (1, 2), "REDUCE_MIN": (1, 2), "LESS": (1, 2),
}  # fmt: skip


class T:
    """A tensor of a subgraph: its index, element type in the file, symbolic sizes, and its values where constant."""

    __slots__ = ("array", "dtype", "index", "quant", "sizes", "stored", "unexpanded", "unreshaped")

    def __init__(self, index: int, dtype: str, sizes: tuple[Size, ...], quant: Quant | None = None, array=None):
        self.index, self.dtype, self.sizes, self.quant, self.array = index, dtype, sizes, quant, array
        self.unreshaped: T = self  # the tensor whose elements these are, where only the shape differs
        self.stored: T | None = None  # the float16 or int8 constant that this is the float32 form of
        self.unexpanded: T | None = None  # the same values before they were repeated by `expand`

    @property
    def rank(self) -> int:
        return len(self.sizes)

    def __repr__(self) -> str:
        return f"T{self.index}:{self.dtype}[{', '.join(map(str, self.sizes))}]"


class Body:
    """One subgraph of a file. `typical` gives symbols a length at which every size is positive."""

    def __init__(self, file: File, name: str, typical: dict[str, int]):
        self.file, self.typical = file, typical
        self.graph = file.subgraph(name)
        self.place = name  # module path that names new tensors
        self.scales = lambda name: None  # arrays of per-channel scales, set by the emitter
        self._names: dict[str, int] = {}
        self._constants: dict[tuple, T] = {}
        self._sized: dict[Size, T] = {}
        self.dims: dict[Size, tuple[T, int]] = {}  # inputs' dimensions, to read symbolic sizes from

    # -- tensors ---------------------------------------------------------------------------------------------------
    def unique(self, name: str) -> str:
        n = self._names.get(name, 0)
        self._names[name] = n + 1
        return name if n == 0 else f"{name};{n}"

    def tensor(self, name: str, dtype: str, sizes: Iterable[Size], quant: Quant | None = None, **more) -> T:
        """A new tensor without a producer yet."""
        sizes = tuple(sizes)
        shape = [evaluate(s, self.typical) for s in sizes]
        signature = None if all(isinstance(s, int) for s in sizes) else [s if isinstance(s, int) else -1 for s in sizes]
        index = self.file.tensor(
            self.graph, self.unique(name), dtype, shape, signature, quant=self._quant(quant), **more
        )
        return T(index, dtype, sizes, quant)

    def _quant(self, quant: Quant | tuple | None):
        """(scales, zero points, axis), of the type's or as given."""
        if quant is None or isinstance(quant, tuple):
            return quant
        scales = self.scales(quant.scale) if isinstance(quant.scale, str) else np.array([quant.scale], np.float32)
        return scales, np.full(len(scales), quant.zero_point), quant.axis or 0

    def const(self, array, name: str = "", quant: Quant | None = None) -> T:
        """A constant tensor; equal small ones are one. int64 becomes int32."""
        array = np.asarray(array)
        if array.dtype == np.int64:
            array = array.astype(np.int32)
        small = array.nbytes <= 4096
        key = (array.dtype.str, array.shape, array.tobytes() if small else id(array),
               quant[0].tobytes() if isinstance(quant, tuple) else quant)  # fmt: skip
        if key not in self._constants:
            t = self.tensor(name or f"{self.place}/const", dtype_of(array), array.shape, quant,
                            buffer=self.file.buffer(array))  # fmt: skip
            t.array = array
            self._constants[key] = t
        return self._constants[key]

    # -- operators -------------------------------------------------------------------------------------------------
    def op(self, name: str, inputs: Sequence[T | None], dtype: str, sizes: Iterable[Size], quant: Quant | None = None,
           **fields: Any) -> T:  # fmt: skip
        """Add an operator with one result."""
        result = self.tensor(f"{self.place}/{name.lower()}", dtype, sizes, quant)
        self.emit(name, inputs, [result], **fields)
        return result

    def emit(self, name: str, inputs: Sequence[T | None], results: Sequence[T], mutable=None, **fields: Any) -> None:
        """Add an operator between existing tensors."""
        whole = any(t is not None and t.dtype == "i8" for t in (*inputs, *results))
        self.file.operator(
            self.graph, name, [NONE if t is None else t.index for t in inputs], [t.index for t in results],
            OPTIONS.get(name), fields, VERSIONS.get(name, (1, 1))[whole], mutable,
        )  # fmt: skip

    def unary(self, name: str, x: T, dtype: str | None = None, quant: Quant | None = None, **fields) -> T:
        return self.op(name, [x], dtype or x.dtype, x.sizes, quant, **fields)

    def binary(self, name: str, a: T, b: T, dtype: str | None = None, quant: Quant | None = None, **fields) -> T:
        """A pointwise operator of two operands, broadcast."""
        return self.op(name, [a, b], dtype or a.dtype, broadcast(a.sizes, b.sizes), quant, **fields)

    def scalar(self, number: float, dtype: str = "f32") -> T:
        return self.const(np.array(number, {"f32": np.float32, "i32": np.int32, "bool": np.bool_}[dtype]))

    def add(self, a: T, b: T | float, **more) -> T:
        return self.binary("ADD", a, self._operand(a, b), **more)

    def sub(self, a: T, b: T | float, **more) -> T:
        return self.binary("SUB", a, self._operand(a, b), **more)

    def mul(self, a: T, b: T | float, **more) -> T:
        return self.binary("MUL", a, self._operand(a, b), **more)

    def div(self, a: T, b: T | float, **more) -> T:
        return self.binary("DIV", a, self._operand(a, b), **more)

    def maximum(self, a: T, b: T | float) -> T:
        return self.binary("MAXIMUM", a, self._operand(a, b))

    def minimum(self, a: T, b: T | float) -> T:
        return self.binary("MINIMUM", a, self._operand(a, b))

    def widen(self, t: T) -> T:
        """The float32 form of a float16 or int8 tensor (of a constant: made once, when the file is loaded)."""
        result = self.op("DEQUANTIZE", [t], "f32", t.sizes)
        result.stored = t if t.array is not None else None
        return result

    def _operand(self, a: T, b: T | float) -> T:
        return b if isinstance(b, T) else self.scalar(b, a.dtype)

    def cast(self, x: T, dtype: str) -> T:
        return x if x.dtype == dtype else self.unary("CAST", x, dtype)

    def reduce(self, name: str, x: T, axes: Sequence[int], keepdims: bool = True, quant: Quant | None = None) -> T:
        """MEAN, SUM, REDUCE_MAX or REDUCE_MIN over `axes`."""
        axes = sorted(a % x.rank for a in axes)
        sizes = [1 if i in axes else s for i, s in enumerate(x.sizes) if keepdims or i not in axes]
        return self.op(name, [x, self.const(np.array(axes, np.int32))], x.dtype, sizes, quant, keepDims=keepdims)

    # -- moving elements -------------------------------------------------------------------------------------------
    def reshape(self, x: T, sizes: Iterable[Size]) -> T:
        """`x` under another shape: literal sizes and one -1 where at most one is unknown."""
        sizes = tuple(sizes)
        x = x.unreshaped
        if same_sizes(x.sizes, sizes):
            return x
        if x.array is not None and all(isinstance(s, int) for s in sizes):
            return self.const(x.array.reshape(sizes), quant=x.quant)
        unknown = [i for i, s in enumerate(sizes) if not isinstance(s, int)]
        if len(unknown) <= 1:
            shape = [s if isinstance(s, int) else -1 for s in sizes]
            y = self.op("RESHAPE", [x, self.const(np.array(shape, np.int32))], x.dtype, sizes, x.quant, newShape=shape)
        else:
            y = self._unit_dims(x, sizes) or self._computed_reshape(x, sizes)
        y.unreshaped = x
        return y

    def _unit_dims(self, x: T, sizes: tuple[Size, ...]) -> T | None:
        """A reshape that only adds or only drops dimensions of size 1."""
        kept, wanted = [s for s in x.sizes if s != 1], [s for s in sizes if s != 1]
        if not same_sizes(kept, wanted):
            return None
        drop = [i for i, s in enumerate(x.sizes) if s == 1]
        if drop:
            x = self.op("SQUEEZE", [x], x.dtype, kept, x.quant, squeezeDims=drop)
        for i, s in enumerate(sizes):
            if s == 1:
                x = self.op(
                    "EXPAND_DIMS", [x, self.const(np.int32(i))], x.dtype, (*x.sizes[:i], 1, *x.sizes[i:]), x.quant
                )
        return x

    def _computed_reshape(self, x: T, sizes: tuple[Size, ...]) -> T:
        """The last resort: a shape computed from SHAPE; one unknown size is still left as -1."""
        from .sizes import size_vector

        free = max((i for i, s in enumerate(sizes) if not isinstance(s, int)), key=lambda i: len(str(sizes[i])))
        shape = size_vector(self, [-1 if i == free else s for i, s in enumerate(sizes)])
        return self.op("RESHAPE", [x, shape], x.dtype, sizes, x.quant)

    def transpose(self, x: T, perm: Sequence[int]) -> T:
        perm = tuple(perm)
        if perm == tuple(range(x.rank)):
            return x
        if x.array is not None:
            return self.const(np.ascontiguousarray(x.array.transpose(perm)), quant=x.quant)
        sizes = tuple(x.sizes[p] for p in perm)
        moved = [p for p in perm if x.sizes[p] != 1]
        if moved == sorted(moved) and sum(not isinstance(s, int) for s in sizes) <= 1:
            return self.reshape(x, sizes)  # only dimensions of size 1 change places
        return self.op("TRANSPOSE", [x, self.const(np.array(perm, np.int32))], x.dtype, sizes, x.quant)

    def slice(self, x: T, axis: int, start: Size, stop: Size, step: int = 1) -> T:
        """Elements start, start + step, … below stop along `axis`; bounds literal wherever they can be."""
        from .sizes import bound, size_vector

        n = x.sizes[axis]
        sizes = list(x.sizes)
        sizes[axis] = (stop - start + step - 1) // step
        if same(start, 0) and same(stop, n) and step == 1:
            return x
        begin, end = bound(start, n), bound(stop, n, end=True)
        others = ((1 << x.rank) - 1) & ~(1 << axis)
        full = end is None
        ends = n if full else (stop if end is Ellipsis else end)
        starts = start if begin is Ellipsis else begin
        vectors = []
        for at, literal in ((starts, begin is not Ellipsis), (0 if full else ends, full or end is not Ellipsis)):
            row = [0] * x.rank
            row[axis] = at
            vectors.append(self.const(np.array(row, np.int32)) if literal else size_vector(self, row))
        steps = np.ones(x.rank, np.int32)
        steps[axis] = step
        return self.op("STRIDED_SLICE", [x, *vectors, self.const(steps)], x.dtype, sizes, x.quant,
                       beginMask=others, endMask=others | (full << axis))  # fmt: skip

    def concat(self, xs: Sequence[T], axis: int) -> T:
        if len(xs) == 1:
            return xs[0]
        sizes = list(xs[0].sizes)
        sizes[axis] = sum((x.sizes[axis] for x in xs[1:]), xs[0].sizes[axis])
        return self.op("CONCATENATION", list(xs), xs[0].dtype, sizes, xs[0].quant, axis=axis)

    def pad(self, x: T, pads: Sequence[tuple[Size, Size]], value: float = 0) -> T:
        """Constant padding; `value` is in stored units for quantized tensors."""
        from .sizes import size_matrix

        if all(same(p, 0) for pair in pads for p in pair):
            return x
        sizes = [s + a + b for s, (a, b) in zip(x.sizes, pads)]
        zero = x.quant.zero_point if x.quant is not None else 0
        block = self._pad_block(x, pads, value) if value != zero else None
        if block is not None:
            return block
        amounts = size_matrix(self, pads)
        if value == zero:
            return self.op("PAD", [x, amounts], x.dtype, sizes, x.quant)
        fill = self.const(np.array(value, {"f32": np.float32, "i8": np.int8}.get(x.dtype, np.int32)), quant=x.quant)
        return self.op("PADV2", [x, amounts, fill], x.dtype, sizes, x.quant)

    def _pad_block(self, x: T, pads, value) -> T | None:
        """Padding by concatenation with constants, which XNNPACK runs (it has no PADV2)."""
        axes = [i for i, pair in enumerate(pads) if any(not same(p, 0) for p in pair)]
        fixed = all(isinstance(s, int) for i, s in enumerate(x.sizes) if i != axes[0])
        if len(axes) != 1 or not fixed or x.dtype != "f32" or not all(isinstance(p, int) for p in pads[axes[0]]):
            return None
        parts = []
        for amount in pads[axes[0]]:
            shape = [amount if i == axes[0] else s for i, s in enumerate(x.sizes)]
            parts.append(self.const(np.full(shape, value, np.float32)) if amount else None)
        return self.concat([p for p in (parts[0], x, parts[1]) if p is not None], axes[0])

    def expand(self, x: T, sizes: Sequence[Size]) -> T:
        """`x` repeated along its dimensions of size 1 up to `sizes`."""
        from .sizes import size_vector

        if same_sizes(x.sizes, tuple(sizes)):
            return x
        y = self.op("BROADCAST_TO", [x, size_vector(self, list(sizes))], x.dtype, sizes, x.quant)
        y.unexpanded = x
        return y

    def copy(self, t: T) -> T:
        """The same values in a tensor of their own."""
        from .sizes import size_vector

        known = sum(not isinstance(s, int) for s in t.sizes) <= 1
        shape = [s if isinstance(s, int) else -1 for s in t.sizes]
        wanted = self.const(np.array(shape, np.int32)) if known else size_vector(self, t.sizes)
        fields = {"newShape": shape} if known else {}
        return self.op("RESHAPE", [t, wanted], t.dtype, t.sizes, t.quant, **fields)

    def declare(self, inputs: Sequence[T], outputs: Sequence[T]) -> None:
        """Say what goes in and out and drop what leads to no output; tensor t is then `renumbered[t.index]`."""
        graph = self.file.subgraphs[self.graph]
        graph.inputs = [t.index for t in inputs]
        self.prune(outputs)
        graph.inputs = [self.renumbered[t.index] for t in inputs]
        graph.outputs = [self.renumbered[t.index] for t in outputs]

    def prune(self, outputs: Sequence[T]) -> None:
        """Drop operators whose results nobody reads."""
        graph = self.file.subgraphs[self.graph]
        needed = {t.index for t in outputs}
        kept = []
        for o in reversed(graph.operators):
            if any(int(i) in needed for i in o.outputs) or o.mutatingVariableInputs:
                needed.update(int(i) for i in o.inputs)
                kept.append(o)
        graph.operators = kept[::-1]
        self._drop_tensors(needed | set(graph.inputs))

    def _drop_tensors(self, needed: set[int]) -> None:
        graph = self.file.subgraphs[self.graph]
        used = sorted({i for i in needed if i >= 0} | {int(i) for o in graph.operators for i in o.outputs})
        new = {old: i for i, old in enumerate(used)} | {NONE: NONE}
        self.renumbered = new
        graph.tensors = [graph.tensors[i] for i in used]
        for o in graph.operators:
            o.inputs = np.array([new[int(i)] for i in o.inputs], np.int32)
            o.outputs = np.array([new[int(i)] for i in o.outputs], np.int32)


def same_sizes(a: Sequence[Size], b: Sequence[Size]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))


def broadcast(a: Sequence[Size], b: Sequence[Size]) -> tuple[Size, ...]:
    """Sizes of a pointwise result (operands are known to fit)."""
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)
    return tuple(y if x == 1 else x for x, y in zip(a, b))

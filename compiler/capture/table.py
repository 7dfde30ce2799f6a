"""The table of ATen operators that capture knows, and what a builder function is given to work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...ir.bounds import Limits
from ...ir.errors import CaptureError
from ...ir.expr import Expr, Size, same
from ...ir.graph import Builder, Value
from ...ir.types import DTYPES, normal_axis

DTYPE = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.float64: "f64",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.bool: "bool",
}
COMPLEX_PART = {torch.complex64: "f32", torch.complex128: "f64"}

TABLE: dict[str, Callable] = {}  # operator -> builder on real values
COMPLEX: dict[str, Callable] = {}  # operator -> builder where an operand or the result is complex
PARTS: set[str] = set()  # operators of TABLE that act on the real and imaginary parts alone


@dataclass(frozen=True)
class Complex:
    """A complex value: two real ones. The IR itself has none."""

    real: Value
    imag: Value


def aten(*names: str, parts: bool = False, library: str = "aten"):
    """Register a builder `f(c, *args, **kwargs)` for operators; arguments are those of the operator's schema.

    Tensors arrive as values, symbolic integers as sizes. `parts`: a complex operand goes through part by part.
    `library` is the namespace of operators that are not PyTorch's own (`torch.library`).
    """

    def register(build: Callable) -> Callable:
        for name in names:
            full = f"{library}.{name}" if "." in name else f"{library}.{name}.default"
            TABLE[full] = build
            if parts:
                PARTS.add(full)
        return build

    return register


def on_complex(*names: str):
    """Register a builder that gets or gives `Complex` values."""

    def register(build: Callable) -> Callable:
        for name in names:
            COMPLEX[f"aten.{name}" if "." in name else f"aten.{name}.default"] = build
        return build

    return register


def ir_dtype(dtype: torch.dtype) -> str:
    """The IR's name of an element type (of the parts, for a complex one); `CaptureError` SC431 if it has none."""
    name = DTYPE.get(dtype) or COMPLEX_PART.get(dtype)
    if name is None:
        raise CaptureError("SC431", f"element type {dtype} is not supported", hints=["convert the model with .float()"])
    return name


class Context:
    """The node at hand: its builder, its types as torch inferred them, and conversions that most builders need."""

    def __init__(
        self, builder: Builder, sizes: Callable[[Any], Size], hint: Callable[[Size], int], limits: Limits | None = None
    ):
        self.b = builder
        self.graph = builder.graph
        self.limits = limits or {}  # of the sizes' names
        self.to_size, self.hint = sizes, hint  # torch's size -> the IR's; the IR's -> its value in the traced run
        self.node: torch.fx.Node | None = None

    # -- what torch knows about the result ------------------------------------------------------------------------
    def meta(self, index: int | None = None):
        """The fake tensor that torch computed for the result (for result `index` of several)."""
        value = self.node.meta["val"]
        return value[index] if isinstance(value, (tuple, list)) and index is not None else value

    def dtype(self, index: int | None = None) -> str:
        return ir_dtype(self.meta(index).dtype)

    def shape(self, *known: Value, index: int | None = None) -> tuple[Size, ...]:
        """The result's sizes; where one equals a size of the `known` values, theirs is used."""
        sizes = tuple(self.to_size(s) for s in self.meta(index).shape)
        have = {d.size for v in known for d in v.type.shape if isinstance(d.size, Expr)}
        return tuple(s if isinstance(s, int) or s in have else next((h for h in have if same(h, s)), s) for s in sizes)

    # -- values ----------------------------------------------------------------------------------------------------
    def value(self, x, dtype: str | None = None) -> Value:
        """A value from a value, number or size, cast to `dtype`."""
        if isinstance(x, Value):
            return self.cast(x, dtype or x.type.dtype)
        if isinstance(x, Expr):
            return self.cast(self.b.extent(x), dtype or "i64")
        if dtype is None:
            dtype = "bool" if isinstance(x, bool) else "i64" if isinstance(x, int) else "f32"
        return self.b.const(x, dtype)

    def cast(self, x: Value, dtype: str) -> Value:
        if x.type.dtype == dtype:
            return x
        if x.kind == "const":
            return self.b.const(x.payload.astype(DTYPES[dtype]).item(), dtype)
        return self.b.cast(x, dtype=dtype)

    def promoted(self, *operands: Any, nodes: tuple | None = None) -> tuple[Value, ...]:
        """The operands in their common element type, by PyTorch's rules of promotion."""
        dtype = None
        for x in nodes or self.node.args[: len(operands)]:
            seen = x.meta["val"] if isinstance(x, torch.fx.Node) else x
            seen = {torch.SymInt: 1, torch.SymFloat: 1.0, torch.SymBool: True}.get(type(seen), seen)
            dtype = seen if dtype is None else _result_type(dtype, seen)
        name = ir_dtype(dtype if isinstance(dtype, torch.dtype) else torch.result_type(dtype, dtype))
        return tuple(self.value(x, name) for x in operands)

    def weight(self, name: str, array: np.ndarray) -> Value:
        """A new constant that belongs to the module at hand."""
        path = self.b.loc.path
        return self.b.weight(f"{path}.{name}" if path else name, np.ascontiguousarray(array))

    def derived(self, name: str, recipe: str, sources: list[Value], shape, dtype: str, compute: Callable) -> Value:
        """A constant computed from weights when somebody first looks; `recipe` says how, for its identity."""
        from ...ir.types import Tensor

        weights = self.graph.weights
        made = weights.derive(name, recipe, [s.payload for s in sources], Tensor(dtype, shape), compute)
        return self.graph.weight_value(made)

    def axis(self, x: Value, axis: int) -> int:
        return normal_axis(axis, x.type.rank)

    def axes(self, x: Value, axes) -> tuple[int, ...]:
        """Axes as a sorted tuple of positions; None and [] mean all."""
        if axes is None or axes == [] or axes == ():
            return tuple(range(x.type.rank))
        return tuple(sorted(self.axis(x, a) for a in ([axes] if isinstance(axes, int) else axes)))

    def reshape(self, x: Value, shape) -> Value:
        shape = tuple(shape)
        return x if shape == x.type.sizes else self.b.reshape(x, shape=shape)

    def transpose(self, x: Value, perm) -> Value:
        perm = tuple(perm)
        return x if perm == tuple(range(len(perm))) else self.b.transpose(x, perm=perm)

    def swapped(self, x: Value, a: int, b: int) -> Value:
        perm = list(range(x.type.rank))
        a, b = self.axis(x, a), self.axis(x, b)
        perm[a], perm[b] = perm[b], perm[a]
        return self.transpose(x, perm)

    def expand(self, x: Value, shape) -> Value:
        shape = tuple(shape)
        return x if shape == x.type.sizes else self.b.expand(x, shape=shape)

    def unsqueezed(self, x: Value, axis: int) -> Value:
        sizes = x.type.sizes
        axis %= len(sizes) + 1
        return self.b.reshape(x, shape=(*sizes[:axis], 1, *sizes[axis:]))

    def part(self, x: Value, axis: int, start: Size, stop: Size, step: int = 1) -> Value:
        """x[start:stop:step] along `axis`."""
        if start == 0 and step == 1 and same(stop, x.type.sizes[axis]):
            return x
        return self.b.slice(x, axis=axis, start=start, stop=stop, step=step)

    def concat(self, xs: list[Value], axis: int) -> Value:
        return xs[0] if len(xs) == 1 else self.b.concat(*xs, axis=axis)

    def no(self, why: str, *hints: str) -> CaptureError:
        """The error for a form of an operator that capture does not know."""
        return CaptureError("SC421", f"{self.node.target}: {why}", where=[str(self.b.loc)], hints=hints)


def _result_type(a, b) -> torch.dtype:
    if isinstance(a, torch.dtype):
        if isinstance(b, (torch.dtype, torch.Tensor)):
            return torch.promote_types(a, b if isinstance(b, torch.dtype) else b.dtype)
        a = torch.empty(1, dtype=a)
    return torch.result_type(a, b)


def many(x, n: int) -> tuple:
    """`x` for each of n dimensions, where the operator takes a number for all of them."""
    x = (x,) if isinstance(x, (int, float, Expr)) else tuple(x)
    return x * n if len(x) == 1 else x

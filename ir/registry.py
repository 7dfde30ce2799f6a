"""The table of ops: one definition each, made of a numpy meaning, a type rule and its documentation.

    @op
    def softmax(x, *, axis):
        "Exponentials along `axis`, divided by their sum."
        ...numpy...

    @softmax.rule
    def _(x, *, axis):
        ...types...

Positional parameters are operands (default None: may be left out; *xs: any number), keyword-only parameters are
attributes. Three attributes come with every arithmetic op and are handled here, not in its meaning: `out=(dtype, scale,
zero_point)` quantizes the result, `dynamic="tensor"|"row"` quantizes the first operand to int8 while running, and
`then="relu"` applies an activation to the result, before `out` quantizes it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import plugins
from .errors import IRError, UnsupportedError
from .expr import Expr, evaluate
from .types import DTYPES, LIMITS, Dim, Quant, Tensor

OPS: dict[str, OpDef] = {}
COMMON = {"out": None, "dynamic": None, "then": None}
THEN: dict[str, Callable[[np.ndarray], np.ndarray]] = {"relu": lambda x: np.maximum(x, x.dtype.type(0))}


class OpDef:
    """One op: `meaning` computes on arrays, `rule` on types."""

    def __init__(self, name: str, meaning: Callable, carries: bool, effect: bool, family: str | None = None):
        self.name, self.meaning, self.effect = name, meaning, effect
        self.carries = carries  # moves stored values without arithmetic: quantized operands pass as they are
        self.doc = inspect.getdoc(meaning) or ""
        home = meaning.__module__.removeprefix(f"{__package__}.ops.").partition(".")[0]  # of a plugin's op: its package
        self.family = family or home
        self.operands: list[str] = []
        self.optional: set[str] = set()
        self.variadic: str | None = None
        self.attrs: dict[str, Any] = {}
        for p in inspect.signature(meaning).parameters.values():
            if p.kind is p.KEYWORD_ONLY:
                self.attrs[p.name] = p.default
            elif p.kind is p.VAR_POSITIONAL:
                self.variadic = p.name
            else:
                self.operands.append(p.name)
                if p.default is not p.empty:
                    self.optional.add(p.name)
        self._rule: Callable | None = None
        self.next_state: Callable | None = None

    def rule(self, function: Callable) -> Callable:
        """Register the type rule: same signature as the meaning, on `Tensor`, giving one or several `Tensor`."""
        self._rule = function
        return function

    def updates(self, function: Callable) -> Callable:
        """Register what the state among the operands holds in the next call: same signature as the meaning."""
        self.next_state = function
        return function

    def signature(self) -> str:
        """How the op is called: operands (`?`: may be left out), then attributes with their defaults."""
        names = [n + "?" * (n in self.optional) for n in self.operands]
        names += [f"*{self.variadic}"] if self.variadic else []
        attrs = [n if d is inspect.Parameter.empty else f"{n}={d!r}" for n, d in self.attrs.items()]
        return f"{self.name}({', '.join(names)}{'; ' if attrs else ''}{', '.join(attrs)})"

    # -- types -----------------------------------------------------------------------------------------------------
    def infer(self, op) -> tuple[Tensor, ...]:
        """Check operands and attributes of `op` (completing its attributes) and give its results' types."""
        operands = op.operands
        least = len(self.operands)
        if len(operands) < least and all(n in self.optional for n in self.operands[len(operands) :]):
            operands = op.operands = operands + (None,) * (least - len(operands))
        if len(operands) < least or (len(operands) > least and not self.variadic):
            raise IRError(f"{self.signature()} got {len(operands)} operands")
        for name, v in zip(self.operands, operands):
            if v is None and name not in self.optional:
                raise IRError(f"{self.name}: operand {name} is missing")
        op.attrs = self.complete(op.attrs)
        own = {k: v for k, v in op.attrs.items() if k not in COMMON}
        types = [None if v is None else v.type for v in operands]
        if not self.carries:
            types = [real(t, _width(operands)) for t in types]
        try:
            result = self._rule(*types, **own)
        except IRError as error:
            shown = ", ".join("none" if v is None else str(v.type) for v in operands)
            error.message = f"{self.name}({shown}): {error.message}"
            raise
        results = result if isinstance(result, tuple) else (result,)
        if op.attrs.get("then", "relu") not in THEN:
            raise IRError(f"{self.name}: then={op.attrs['then']!r} is not one of {', '.join(THEN)}")
        if op.attrs.get("out"):
            dtype, scale, zero = op.attrs["out"]
            results = (results[0].with_(dtype=dtype, quant=Quant(scale, zero)), *results[1:])
        return results

    def complete(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The attributes in definition order, defaults filled in, lists turned into tuples."""
        unknown = set(attrs) - set(self.attrs) - (set() if self.carries else set(COMMON))
        if unknown:
            raise IRError(f"{self.name} has no attribute {', '.join(sorted(unknown))} (it is {self.signature()})")
        full = {}
        for name, default in self.attrs.items():
            value = attrs.get(name, default)
            if value is inspect.Parameter.empty:
                raise IRError(f"{self.name}: attribute {name} is missing")
            full[name] = _frozen(value)
        for name in COMMON:
            if attrs.get(name) is not None:
                full[name] = _frozen(attrs[name])
        return full

    # -- values ----------------------------------------------------------------------------------------------------
    def run(self, op, arrays: list[np.ndarray | None], sizes: Mapping[str, int], scales: Callable) -> tuple:
        """Evaluate `op`: `arrays` as its operands, `sizes` of the symbols, `scales(name)` for per-channel scales."""
        attrs = {k: concrete(v, sizes) for k, v in op.attrs.items() if k not in COMMON}
        if not self.carries:
            if op.attrs.get("dynamic"):
                with np.errstate(all="ignore"):
                    arrays = [fake_quantize(arrays[0], op.attrs["dynamic"]), *arrays[1:]]
            width = DTYPES[_width(op.operands)]
            arrays = [
                dequantized(a, v.type, scales).astype(width, copy=False) if v is not None and v.type.quant else a
                for a, v in zip(arrays, op.operands)
            ]
        with np.errstate(all="ignore"):
            result = self.meaning(*arrays, **attrs)
        results = result if isinstance(result, tuple) else (result,)
        if op.attrs.get("then"):
            results = (THEN[op.attrs["then"]](results[0]), *results[1:])
        if op.attrs.get("out"):
            results = (quantized(results[0], *op.attrs["out"]), *results[1:])
        return results


def op(
    function: Callable | str | None = None, *, carries: bool = False, effect: bool = False, family: str | None = None
):
    """Define an op from its meaning; `@op`, `@op("name")` or `@op(carries=True)`.

    `family` groups ops: by default the file, or the plugin, that they are in. "pointwise" is a promise to passes: every
    element alone, operands broadcast.
    """

    def define(meaning: Callable, name: str | None = None) -> OpDef:
        if plugins.is_plugged(meaning):
            from . import ops  # noqa: F401  registers the core ops
        definition = OpDef(name or meaning.__name__, meaning, carries, effect, family)
        if definition.name in OPS:
            raise IRError(f"op {definition.name} is defined twice")
        OPS[definition.name] = definition
        return definition

    if callable(function):
        return define(function)
    return lambda meaning: define(meaning, function)


def definition(kind: str) -> OpDef:
    """The definition of an op by name."""
    from . import ops  # noqa: F401  registers the core ops

    found = OPS.get(kind)
    if found is None:
        plugins.load()
        found = OPS.get(kind)
    if found is None:
        raise UnsupportedError("SC101", f"there is no op called {kind}", hints=["speechc ops lists all of them"])
    return found


def concrete(value, sizes: Mapping[str, int]):
    """An attribute with its symbolic sizes evaluated."""
    if isinstance(value, Expr):
        return evaluate(value, sizes)
    if isinstance(value, tuple):
        return tuple(concrete(v, sizes) for v in value)
    return value


def _frozen(value):
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, Expr, Dim)):
        return value
    raise IRError(f"attributes are numbers, strings, sizes and lists of them, not {type(value).__name__}")


# -- quantized values ----------------------------------------------------------------------------------------------
def real(t: Tensor | None, dtype: str = "f32") -> Tensor | None:
    """The type of the real values that a quantized type stands for."""
    return t if t is None or t.quant is None else t.with_(dtype=dtype, quant=None)


def _width(operands) -> str:
    """What quantized operands are read as: float64 beside a float64 operand (a graph widened to be judged)."""
    wide = any(v is not None and v.type.quant is None and v.type.dtype == "f64" for v in operands)
    return "f64" if wide else "f32"


def quantized(x: np.ndarray, dtype: str, scale, zero_point: int = 0) -> np.ndarray:
    """round(x / scale) + zero_point, ties to even, clipped to the type's range (ONNX QuantizeLinear)."""
    low, high = LIMITS[dtype]
    return np.clip(np.rint(x / np.asarray(scale, x.dtype)) + zero_point, low, high).astype(DTYPES[dtype])


def dequantized(q: np.ndarray, type: Tensor, scales: Callable) -> np.ndarray:
    """scale * (q - zero_point) in float32, per channel where the type says so."""
    quant = type.quant
    scale = np.float32(quant.scale) if isinstance(quant.scale, float) else scales(quant.scale)
    if quant.axis is not None:
        scale = scale.reshape([-1 if i == quant.axis else 1 for i in range(q.ndim)])
    return (q.astype(np.int32) - quant.zero_point).astype(np.float32) * scale


def fake_quantize(x: np.ndarray, per: str) -> np.ndarray:
    """x after a trip through int8 with scales found at run time, asymmetric, zero included.

    `tensor`: one scale for all (ONNX DynamicQuantizeLinear, LiteRT's hybrid convolutions). `row`: one a row of the
    last axis (LiteRT's hybrid matrix products).
    """
    axis = -1 if per == "row" else None
    low = np.minimum(x.min(axis, keepdims=True), 0)
    high = np.maximum(x.max(axis, keepdims=True), 0)
    scale = (high - low) / 255
    scale = np.where(scale == 0, 1, scale).astype(x.dtype)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return ((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale).astype(x.dtype)

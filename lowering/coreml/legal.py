"""What Core ML can express, decided from kinds, attributes and types alone."""

from __future__ import annotations

from collections.abc import Callable

from ...ir.expr import Expr
from ...ir.graph import Op
from ...ir.registry import OPS
from .lower import load_all

MOST_DIMENSIONS = 5
FLOAT = frozenset({"f16", "f32"})
NUMBER = FLOAT | {"i32", "i64"}
HELD = NUMBER | {"bool"}

# Element types that MIL's operations have; whoever is not named here computes on floats alone.
OPERANDS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("add", "sub", "mul", "minimum", "maximum", "pow", "mod", "floor_div", "less", "less_equal"), NUMBER
    ),
    **dict.fromkeys(("neg", "abs", "sign", "relu", "sum", "max", "min", "argmax", "cumsum", "cummax"), NUMBER),
    **dict.fromkeys(("equal", "where"), HELD),
    "cast": HELD | {"i8", "u8"},
    **dict.fromkeys(("logical_and", "logical_or", "logical_not"), frozenset({"bool"})),
    **dict.fromkeys(("reshape", "transpose", "expand", "slice", "concat", "flip", "pad", "retime"), HELD),
    **dict.fromkeys(("gather_elements", "read", "write", "history"), HELD),
    "frame": HELD,
    "gather": HELD | {"i8", "u8"},
}
CHECKS: dict[str, Callable[[Op], str | None]] = {}


def why_not(op: Op) -> str | None:
    """The reason why `op` has no form in Core ML; None if it has one."""
    if op.kind not in load_all():
        return "MIL has no form of it"
    if op.attrs.get("then") and not all(r.type.is_float for r in op.results):
        return f"then={op.attrs['then']!r} follows floating-point arithmetic only"
    if op.attrs.get("out"):
        return "integer arithmetic on quantized operands; Core ML wants quantize, the op in float, and dequantize"
    if op.attrs.get("dynamic"):
        return "activations quantized at run time; Core ML has fixed scales only (--calibrate DIR)"
    return _types(op) or (CHECKS[op.kind](op) if op.kind in CHECKS else None)


def _types(op: Op) -> str | None:
    for v in (*op.operands, *op.results):
        if v is None:
            continue
        t = v.type
        if t.rank > MOST_DIMENSIONS:
            return f"a tensor of {t.rank} dimensions; Core ML has {MOST_DIMENSIONS} at most"
        if 0 in t.sizes:
            return "a tensor without elements"
        if t.quant is not None and t.dtype not in ("i8", "u8"):
            return f"{t.dtype} with a scale (8 bits only)"
        if t.quant is None and t.dtype not in HELD | {"i8", "u8"}:
            return f"{t.dtype} values"
        if t.quant is not None and op.kind != "dequantize" and not OPS[op.kind].carries:
            return f"operand {v} is quantized; dequantize it first"
    first = next((v.type for v in op.operands if v is not None), None)
    first = op.operands[1].type if op.kind == "where" else first
    table = OPERANDS.get(op.kind, FLOAT)
    if first is not None and first.quant is None and first.dtype not in table:
        return f"no {op.kind} of {first.dtype} (it takes {', '.join(sorted(table))})"
    return None


def checks(*kinds: str):
    """Register a further test of some kinds."""

    def register(function):
        CHECKS.update(dict.fromkeys(kinds, function))
        return function

    return register


@checks("conv", "conv_transpose", "max_pool", "avg_pool")
def _(op: Op) -> str | None:
    from .constants import behind

    x = op.operands[0]
    if x.type.rank not in (3, 4):
        return f"one or two spatial dimensions, not {x.type.rank - 2}"
    if not op.kind.startswith("conv") or behind(op.operands[1]) is not None:
        return None
    if op.kind == "conv_transpose" or any(d > 1 for d in op.attrs["dilation"]):
        return "its weights are computed at run time"
    return None


@checks("lstm", "gru", "rnn")
def _(op: Op) -> str | None:
    from .ops_recurrent import fixed

    if not fixed(op):
        return "its weights are computed at run time"
    if any(isinstance(s, Expr) for s in op.operands[1].type.sizes[1:]):
        return "a width that is not known"
    return None


@checks("frame", "resize")
def _(op: Op) -> str | None:
    if op.operands[0].type.rank >= MOST_DIMENSIONS:
        return f"{op.operands[0].type.rank} dimensions: it needs one more, and Core ML has {MOST_DIMENSIONS}"
    return None


@checks("quantize")
def _(op: Op) -> str | None:
    return None if op.attrs["dtype"] in ("i8", "u8") else f"{op.attrs['dtype']} codes (8 bits only)"


@checks("dequantize")
def _(op: Op) -> str | None:
    return "float64 values" if op.attrs["dtype"] == "f64" else None

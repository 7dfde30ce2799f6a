"""What TFLite can express, judged from an op's kind, attributes and types alone."""

from __future__ import annotations

from ...ir.graph import Op, Value
from ...ir.registry import definition
from .ops import CHECKS, LOWERINGS

DTYPES = ("f32", "i32", "i64", "bool", "i8")  # i64 is computed in 32 bits
MOST_DIMENSIONS = {"reshape": 8, "slice": 8, "concat": 8}  # others: 6, broadcasting comparisons: 4


def illegal(op: Op) -> str | None:
    """Why `op` cannot be written; None if it can."""
    if op.kind not in LOWERINGS:
        return "not in this target's table"
    for v in (*op.operands, *op.results):
        if v is not None and (why := _type(op, v)) is not None:
            return why
    for check in CHECKS.get(op.kind, ()):
        if (why := check(op)) is not None:
            return why
    return None


def _type(op: Op, v: Value) -> str | None:
    t = v.type
    half = t.dtype == "f16" and op.kind == "cast" and v is op.operands[0] and v.known
    if t.dtype not in DTYPES and not half:
        return f"{t.dtype} values"
    if t.dtype == "i8" and t.quant is None and not definition(op.kind).carries and op.kind != "cast":
        return "arithmetic on int8 without a scale"
    if t.quant is not None and t.dtype != "i8":
        return f"{t.dtype} with a scale (int8 only)"
    if t.rank > MOST_DIMENSIONS.get(op.kind, 6):
        return f"a tensor of {t.rank} dimensions"
    return None

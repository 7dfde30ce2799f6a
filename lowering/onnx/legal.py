"""What ONNX (as onnxruntime runs it) can express, decided from kinds, attributes and types alone."""

from __future__ import annotations

from collections.abc import Callable

from ...ir.expr import Expr
from ...ir.graph import Op
from ...ir.registry import definition
from .lower import load_all

FLOAT = frozenset({"f16", "f32", "f64"})
HALF_SINGLE = frozenset({"f16", "f32"})
NUMBER = FLOAT | {"i32", "i64"}
MOVED = NUMBER | {"bool", "i8", "u8", "i16"}

# Element types that onnxruntime's CPU kernels have; whoever is not named here computes on floats alone.
OPERANDS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("add", "sub", "mul", "minimum", "maximum", "pow", "mod", "floor_div", "less", "less_equal"), NUMBER
    ),
    **dict.fromkeys(("neg", "abs", "sign", "relu", "sum", "max", "min", "argmax", "cummax", "matmul"), NUMBER),
    **dict.fromkeys(("equal", "where"), NUMBER | {"bool"}),
    "cumsum": NUMBER - {"f16"},
    "cast": MOVED,
    **dict.fromkeys(("logical_and", "logical_or", "logical_not"), frozenset({"bool"})),
    **dict.fromkeys(("reshape", "transpose", "expand", "slice", "concat", "flip", "frame"), MOVED),
    **dict.fromkeys(("gather", "gather_elements", "read", "write", "history", "retime"), MOVED),
    "pad": MOVED - {"i16"},
    "quantize": HALF_SINGLE,
    "dequantize": frozenset({"i8", "u8", "i16", "i4"}),
    **dict.fromkeys(("erf", "gelu", "leaky_relu", "group_norm", "avg_pool", "lstm", "gru", "rnn"), HALF_SINGLE),
}
CHECKS: dict[str, Callable[[Op], str | None]] = {}


def why_not(op: Op) -> str | None:
    """The reason why `op` has no ONNX form; None if it has one."""
    if op.kind not in load_all():
        return "ONNX has no form of it"
    if op.attrs.get("then") and not all(r.type.is_float for r in op.results):
        return f"then={op.attrs['then']!r} follows floating-point arithmetic only"
    if op.attrs.get("out"):
        return "integer arithmetic on quantized operands; ONNX wants quantize, the op in float, and dequantize"
    if op.attrs.get("dynamic") and op.kind not in ("linear", "conv"):
        return f"{op.kind} with dynamic={op.attrs['dynamic']!r}: for linear and conv only"
    if op.attrs.get("dynamic") == "row" and op.kind != "linear":
        return "convolutions quantize the whole of what they read"
    if op.attrs.get("dynamic") and any(isinstance(p, Expr) for pair in op.attrs.get("pad", ()) for p in pair):
        return "dynamic quantization wants pads of known size"
    first = next((v.type for v in op.operands if v is not None), None)
    if op.kind == "where":
        first = op.operands[1].type
    table = OPERANDS.get(op.kind, FLOAT)
    if first is not None and first.dtype not in table:
        return f"no kernel for {first.dtype} (it takes {', '.join(sorted(table))})"
    if op.attrs.get("channel_last"):
        return "windows slide over channels-first tensors only"
    if op.kind not in ("dequantize", "read", "write") and not op.attrs.get("dynamic"):
        for v in op.operands:
            if v is not None and v.type.quant is not None and not definition(op.kind).carries:
                return f"operand {v} is quantized; dequantize it first"
    if op.attrs.get("dynamic") and (why := _dynamic_weight(op)):
        return why
    check = CHECKS.get(op.kind)
    return check(op) if check else None


def checks(*kinds: str):
    """Register a further test of some kinds."""

    def register(function):
        CHECKS.update(dict.fromkeys(kinds, function))
        return function

    return register


@checks("conv", "conv_transpose", "max_pool", "avg_pool")
def _(op: Op) -> str | None:
    rank = op.operands[0].type.rank
    if rank not in (3, 4):
        return f"one or two spatial dimensions, not {rank - 2}"
    return None


@checks("lstm", "gru", "rnn")
def _(op: Op) -> str | None:
    weights = [v for v in op.operands[2 + (op.kind == "lstm") :] if v is not None]
    if any(isinstance(s, Expr) for v in weights for s in v.type.sizes):
        return "its weights have unknown sizes"
    return None


def _dynamic_weight(op: Op) -> str | None:
    w = op.operands[1]
    if w.kind != "weight" or w.type.quant is None or w.type.dtype != "i8":
        return "dynamic quantization wants an int8 weight"
    if w.type.quant.zero_point or w.type.quant.axis not in (None, 0):
        return "dynamic quantization wants symmetric weights, scaled per output or as a whole"
    return None


@checks("dequantize")
def _(op: Op) -> str | None:
    q = op.operands[0]
    if op.attrs["dtype"] != "f32":
        return "scales are float32, and so are the real values"
    if q.type.dtype == "i4" and q.kind != "weight":
        return "int4 is for weights only"
    return None

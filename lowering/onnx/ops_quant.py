"""Quantization: QuantizeLinear and DequantizeLinear, and products whose activations are quantized at run time."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Op, Value
from ...ir.types import DTYPES, Quant
from .lower import BASE_OPSET, lower


def _opset(op: Op) -> int:
    wide = {v.type.dtype for v in (*op.operands, *op.results)} & {"i16", "i4"}
    half = {v.type.dtype for v in op.operands} & {"f16"}
    return 21 if wide else 19 if half else BASE_OPSET


@lower("quantize", opset=_opset)
def _(e, x, *, scale, zero_point, dtype):
    return e.node("QuantizeLinear", [x, e.number(scale, x), e.number(zero_point, dtype)])


def weight_behind(v: Value) -> Value | None:
    """The quantized weight that `v` is the dequantized form of."""
    if v.kind == "result" and v.op.kind == "dequantize" and v.op.operands[0].kind == "weight":
        return v.op.operands[0]
    return None


@lower("dequantize", opset=_opset)
def _(e, q, dtype):
    result = e.op.result
    own_form = bool(result.users) and all(_stores_own_form(u, result, q) for u in result.users)
    if q.kind == "weight" and own_form and not any(o is result for o in e.graph.outputs):
        return None
    return dequantized(e, q, dtype)


def _stores_own_form(user: Op, w: Value, q: Value) -> bool:
    """Whether the reader of a dequantized weight stores it in a form of its own: transposed, or with gates moved."""
    if user.kind == "linear":
        return user.operands[1] is w and user.operands[0] is not w
    matrices = {"lstm": (3, 4), "gru": (2, 3), "rnn": (2, 3)}.get(user.kind, ())
    at = [i for i, v in enumerate(user.operands) if v is w]
    projected = user.kind == "lstm" and user.operands[6] is not None
    return bool(at) and (
        (projected and set(at) <= {3, 4, 6}) or (not projected and set(at) <= set(matrices) and q.type.quant.axis == 0)
    )


def dequantized(e, q: Value, dtype: str = "f32", transpose: bool = False):
    """DequantizeLinear of `q`, once a graph for a weight; `transpose` stores a matrix as [inputs, outputs].

    The product with the scale is taken in float32, as the IR means it, and then becomes `dtype`.
    """
    key = ("dequantized", id(q), dtype, transpose)
    if key not in e.cache:
        quant: Quant = q.type.quant
        axis = None if quant.axis is None else (1 - quant.axis if transpose else quant.axis)
        codes = transposed_codes(e, q) if transpose else e.value(q)
        if quant.axis is None:
            scale = e.number(quant.scale, "f32") if isinstance(quant.scale, float) else _whole_scale(e, quant)
            zero = e.number(quant.zero_point, q.type.dtype)
        else:
            scale = e.scale(quant.scale)
            zero = np.full(q.type.sizes[quant.axis], quant.zero_point, DTYPES[q.type.dtype])
        inputs = [codes, scale, zero]
        if q.type.dtype == "i4":
            inputs = inputs[:2]  # the zero point is zero and would have to be packed
        e.cache[key] = e.cast(e.node("DequantizeLinear", inputs, axis=axis), "f32", dtype)
    return e.cache[key]


def _whole_scale(e, quant: Quant):
    """The one scale of a tensor whose scale is kept as a weight of one element."""
    return e.weight(e.graph.weight(quant.scale), "scalar", lambda a: a.reshape(()), ())


def transposed_codes(e, q: Value):
    """A matrix of codes as [inputs, outputs]; one that is a table as well is stored once, as that."""
    if "tables" not in e.cache:
        tables = (op.operands[0] for op in e.graph.ops if op.kind == "gather" and op.operands[0].kind == "weight")
        e.cache["tables"] = {id(s): t for t in tables for s in t.payload.sources if s.type.shape == t.type.shape}
    table = e.cache["tables"].get(id(q.payload))
    if table is not None and table.type.dtype == q.type.dtype:
        return e.node("Transpose", [table], perm=[1, 0])
    return e.weight(q, "T", lambda a: a.T, q.type.sizes[::-1])


def dynamic_linear(e, x: Value, w: Value, b: Value | None, per: str):
    """int8 product with scales found at run time, one for all rows of `x` (`per` "tensor") or one a row."""
    if per == "row" and not all(n == 1 for n in x.type.sizes[:-1]):
        return _by_row(e, x, w, b)
    codes, scale, zero = run_time_codes(e, x)
    return _integer_product(e, codes, scale, zero, transposed_codes(e, w), w.type.quant, b)


def run_time_codes(e, x: Value):
    """u8 codes of `x`, their scale and zero point; all products that read the same `x` share them."""
    key = ("codes", id(x))
    if key not in e.cache:
        e.cache[key] = e.node("DynamicQuantizeLinear", [x], outputs=3)
    return e.cache[key]


def _by_row(e, x: Value, w: Value, b: Value | None):
    """As `fake_quantize(x, "row")` means it; MatMulInteger has one zero point: those of rows come off behind."""
    key, last = ("row codes", id(x)), (x.type.rank - 1,)
    if key not in e.cache:
        low = e.node("Min", [e.reduce("ReduceMin", x, last, True), np.float32(0)])
        high = e.node("Max", [e.reduce("ReduceMax", x, last, True), np.float32(0)])
        scale = e.node("Div", [e.node("Sub", [high, low]), np.float32(255)])
        scale = e.node("Where", [e.node("Equal", [scale, np.float32(0)]), np.float32(1), scale])
        least, most = np.float32(0), np.float32(255)
        zero = e.node("Clip", [e.node("Round", [e.node("Neg", [e.node("Div", [low, scale])])]), least, most])
        codes = e.node("Add", [e.node("Round", [e.node("Div", [x, scale])]), zero])
        codes = e.node("Cast", [e.node("Clip", [codes, least, most])], to=int(e.tensor_type("u8").dtype))
        e.cache[key] = codes, scale, zero
    codes, scale, zero = e.cache[key]
    columns = w.type.sizes[0]
    sums = e.weight(w, "sums", lambda a: a.sum(1, dtype=np.int32), (columns,), "i32")
    total = e.node("MatMulInteger", [codes, transposed_codes(e, w), np.uint8(0), np.int8(0)])
    total = e.node("Sub", [total, e.node("Mul", [e.node("Cast", [zero], to=int(e.tensor_type("i32").dtype)), sums])])
    total = e.node("Cast", [total], to=int(e.tensor_type("f32").dtype))
    y = e.node("Mul", [total, e.node("Mul", [scale, _output_scale(e, w.type.quant)])])
    return y if b is None else e.node("Add", [y, b])


def _output_scale(e, quant: Quant):
    """The scales of a weight, one an output or one for all."""
    if isinstance(quant.scale, float):
        return e.constant(np.float32(quant.scale))
    return e.scale(quant.scale) if quant.axis is not None else _whole_scale(e, quant)


def _integer_product(e, codes, scale, zero, matrix, quant: Quant, b: Value | None):
    """The chain that onnxruntime fuses to MatMulIntegerToFloat or DynamicQuantizeMatMul."""
    total = e.node("MatMulInteger", [codes, matrix, zero, np.int8(0)])
    total = e.node("Cast", [total], to=int(e.tensor_type("f32").dtype))
    y = e.node("Mul", [total, e.node("Mul", [scale, _output_scale(e, quant)])])
    return y if b is None else e.node("Add", [y, b])


def dynamic_conv(e, x: Value, w: Value, b: Value | None, stride, dilation, pad, groups: int):
    """int8 convolution with scales found at run time: the codes each window sees, in a row, times the kernel.

    onnxruntime's ConvInteger takes three times as long as its float Conv; this takes a third. Grouped convolutions gain
    nothing from it: they run in float on the values that the codes stand for.
    """
    codes, scale, zero = run_time_codes(e, x)
    rank, outputs = x.type.rank, w.type.sizes[0]
    if groups > 1:
        inputs = [e.node("DequantizeLinear", [codes, scale, zero]), dequantized(e, w), *([] if b is None else [b])]
        pads = [p for p, _ in pad] + [q for _, q in pad]
        return e.node("Conv", inputs, strides=list(stride), dilations=list(dilation), pads=pads, group=groups)
    rows = e.node("Transpose", [codes], perm=[0, *range(2, rank), 1])
    if any(map(any, pad)):
        amounts = [0, *(p for p, _ in pad), 0, 0, *(q for _, q in pad), 0]
        rows = e.node("Pad", [rows, np.array(amounts, np.int64), zero])
    kernel = w.type.sizes[2:]
    axes, steps = np.arange(1, rank - 1), np.array(stride, np.int64)
    taps = []
    for at in np.ndindex(*kernel) if any(k > 1 for k in kernel) or any(s > 1 for s in stride) else ():
        starts = np.array([i * d for i, d in zip(at, dilation)], np.int64)
        left = np.array([(k - 1 - i) * d for k, i, d in zip(kernel, at, dilation)], np.int64)
        stops = np.where(left == 0, np.iinfo(np.int64).max, -left)
        taps.append(e.node("Slice", [rows, starts, stops, axes, steps]))
    rows = e.node("Concat", taps, axis=rank - 1) if len(taps) > 1 else taps[0] if taps else rows
    matrix = e.weight(
        w, "rows", lambda a: np.moveaxis(a, 1, -1).reshape(outputs, -1).T, (int(np.prod(w.type.sizes[1:])), outputs)
    )
    y = _integer_product(e, rows, scale, zero, matrix, w.type.quant, b)
    return e.node("Transpose", [y], perm=[0, rank - 1, *range(1, rank - 1)])

"""Matrix products and convolutions."""

from __future__ import annotations

import numpy as np

from ...ir.expr import Size
from ...ir.graph import Op, Value
from ...ir.types import Quant
from .body import T
from .registry import lower, refuse
from .taps import VALID, in_parts, summed

SAME = 0
RELU = 1  # ActivationFunctionType


@lower("linear", integer=True, activates=True)
def linear(e, op: Op, x: T, w: T, b: T | None) -> T:
    """FULLY_CONNECTED; int8 weights with float activations make it hybrid (activations quantized a row at a time)."""
    act, quant = fused_relu(e, op), e.out_quant(op)
    if stored(op.operands[1]) is None:  # weights computed at run time
        y = e.op("BATCH_MATMUL", [x, w], "f32", (*x.sizes[:-1], w.sizes[0]), adjX=False, adjY=True)
        y = e.add(y, b) if b is not None else y
        return e.unary("RELU", y) if act else y
    flat = e.reshape(x, (1, *x.sizes)) if x.rank == 1 else x
    w = widened(e, op, x, constant(w))
    inputs = [flat, w] + ([bias(e, b, flat, w, w.sizes[0])] if b is not None else [])
    sizes = (*flat.sizes[:-1], w.sizes[0])
    y = e.op("FULLY_CONNECTED", inputs, "i8" if quant else "f32", sizes, quant, keepNumDims=True,
             fusedActivationFunction=act, asymmetricQuantizeInputs=True)  # fmt: skip
    return e.reshape(y, y.sizes[1:]) if x.rank == 1 else y


def fused_relu(e, op: Op) -> int:
    """RELU where the only reader is a relu of the same type; that op is then done."""
    if op.attrs.get("then") == "relu":
        return RELU
    reader = e.only_reader(op.result)
    if reader is None or reader.kind != "relu" or reader.result.type != op.result.type:
        return 0
    e.fused[id(op.result)] = reader
    return RELU


def stored(w: Value) -> Value | None:
    """The constant that the matrix or kernel `w` is, or is made of: float32, or float16 or int8 before its widening."""
    if w.known:
        return w
    made = w.op is not None and w.op.kind in ("cast", "dequantize") and w.op.operands[0].known
    return w.op.operands[0] if made else None


def constant(w: T) -> T:
    """The constant that `w` is, or is the float32 form of."""
    return w if w.array is not None else w.stored


def widened(e, op: Op, x: T, t: T) -> T:
    """A float16 or int8 constant as float32, which the kernels do once at start; int8 stays for integer kernels."""
    integer = t.quant is not None and (x.quant is not None or op.attrs.get("dynamic"))
    return t if t.dtype == "f32" or integer else e.widen(t)


def bias(e, b: T | None, x: T, w: T, count: int) -> T:
    """The bias as a constant: float, or int32 with the scale of the products. Zeros where there is none."""
    array = np.zeros(count, np.float32) if b is None else b.array
    if x.quant is None:
        return e.const(array) if b is None else b
    scales = np.asarray(e._quant(w.quant)[0], np.float32) * np.float32(x.quant.scale)
    codes = np.clip(np.rint(array.astype(np.float64) / scales), -(2**31) + 1, 2**31 - 1).astype(np.int32)
    return e.const(codes, quant=(scales, np.zeros(len(scales), np.int64), 0))


@refuse("linear")
def constant_bias(op: Op) -> str | None:
    x, w, b = op.operands
    if b is not None and not b.known and (w.known or x.type.quant):
        return "a bias computed at run time"
    if op.attrs.get("dynamic") == "tensor":
        return "activations quantized per tensor at run time (TFLite quantizes them per row)"
    return None


@lower("matmul", integer=True)
def matmul(e, op: Op, a: T, b: T) -> T:
    """BATCH_MATMUL; a transposed right side becomes its flag."""
    quant = e.out_quant(op)
    rank = max(a.rank, b.rank)
    sizes = op.result.type.sizes
    a, adj_x = transposed(e, op.operands[0], a)
    b, adj_y = transposed(e, op.operands[1], b)
    if a.rank < rank:
        a = e.reshape(a, (1,) * (rank - a.rank) + a.sizes)
    if b.rank < rank:
        b = e.reshape(b, (1,) * (rank - b.rank) + b.sizes)
    return e.op("BATCH_MATMUL", [a, b], "i8" if quant else "f32", sizes, quant, adjX=adj_x, adjY=adj_y)


def transposed(e, v, t: T) -> tuple[T, bool]:
    """The operand before a transpose that only swaps its last two dimensions."""
    if v.kind != "result" or v.op.kind != "transpose":
        return t, False
    perm, n = v.op.attrs["perm"], v.type.rank
    if n < 2 or tuple(perm) != (*range(n - 2), n - 1, n - 2):
        return t, False
    return e.value(v.op.operands[0]), True


@refuse("matmul")
def matmul_rank(op: Op) -> str | None:
    return "more than 5 dimensions" if op.result.type.rank > 5 else None


# -- convolutions --------------------------------------------------------------------------------------------------
@lower("conv", integer=True, activates=True)
def conv(e, op: Op, x: T, w: T, b: T | None) -> T:
    """CONV_2D or DEPTHWISE_CONV_2D on [N, H, W, C]; one spatial dimension is W of H = 1."""
    a = op.attrs
    quant, act = e.out_quant(op), fused_relu(e, op)
    stride, dilation, pads, kernel = a["stride"], a["dilation"], a["pad"], w.sizes[2:]
    channels = x.sizes[-1]
    x, stride, dilation, pads, kernel = as_2d(e, x, stride, dilation, pads, kernel)
    outputs, w = w.sizes[0], constant(w)
    if a["groups"] == channels == outputs and in_parts(e, op, x, w, kernel, stride):
        x = e.pad(e.real(x), ((0, 0), *pads, (0, 0)))
        weights = (w.array if w.quant is None else e.real_array(w)).reshape(outputs, *kernel)
        y = summed(e, x, w, weights, None if b is None else e.real_array(constant(b)), stride, dilation)
        return e.reshape(e.unary("RELU", y) if act else y, op.result.type.sizes)
    x, padding, space = padded_input(e, x, kernel, stride, dilation, pads)
    depthwise = a["groups"] == channels > 1
    order = w.array.reshape(outputs, w.sizes[1], *kernel)
    weights, axis = (order.transpose(1, 2, 3, 0), 3) if depthwise else (order.transpose(0, 2, 3, 1), 0)
    wq = None if w.quant is None else Quant(w.quant.scale, 0, axis if w.quant.axis is not None else None)
    filters = e.derived(w, "dhwc" if depthwise else "ohwi", np.ascontiguousarray(weights), wq)
    filters = widened(e, op, x, filters)
    fields = dict(padding=padding, strideH=stride[0], strideW=stride[1], dilationHFactor=dilation[0],
                  dilationWFactor=dilation[1], fusedActivationFunction=act)  # fmt: skip
    if depthwise:
        fields["depthMultiplier"] = outputs // channels
    y = e.op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, filters, bias(e, b, x, filters, outputs)],
             "i8" if quant else "f32", (x.sizes[0], *space, outputs), quant, **fields)  # fmt: skip
    return e.reshape(y, op.result.type.sizes)


def as_2d(e, x: T, stride, dilation, pads, kernel):
    """A convolution over one dimension as one over two, the first of them 1."""
    if len(kernel) == 2:
        return x, stride, dilation, pads, kernel
    x = e.reshape(x, (x.sizes[0], 1, *x.sizes[1:]))
    return x, (1, *stride), (1, *dilation), ((0, 0), *pads), (1, *kernel)


def padded_input(e, x: T, kernel, stride, dilation, pads, value=None) -> tuple[T, int, list[Size]]:
    """SAME where it means exactly these pads, else the input padded explicitly; and the sizes that come out."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    sizes = [(s + p + q - r) // st + 1 for s, (p, q), r, st in zip(x.sizes[1:3], pads, reach, stride)]
    if all(p == (0, 0) for p in pads):
        return x, VALID, sizes
    if all(is_same(s, p, r, st) for s, p, r, st in zip(x.sizes[1:3], pads, reach, stride)):
        return x, SAME, sizes
    if value is None:
        value = x.quant.zero_point if x.quant else 0
    return e.pad(x, ((0, 0), *pads, (0, 0)), value), VALID, sizes


def is_same(size: Size, pads: tuple[int, int], reach: int, stride: int) -> bool:
    """Whether TFLite's SAME pads this much: enough for ⌈size / stride⌉ outputs, the odd frame behind."""
    if stride == 1:
        return tuple(pads) == ((reach - 1) // 2, reach // 2)
    if not isinstance(size, int):
        return False
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return tuple(pads) == (total // 2, total - total // 2)


def window_form(op: Op) -> str | None:
    """Why no kernel slides over the operands as they are."""
    _, w, b = op.operands
    if not op.attrs["channel_last"]:
        return "channels first (the pass channels-last lays it out)"
    if len(op.attrs["stride"]) > 2:
        return "more than two spatial dimensions"
    if stored(w) is None or (b is not None and not b.known):
        return "weights computed at run time"
    return None


@refuse("conv")
def conv_form(op: Op) -> str | None:
    why = window_form(op)
    if why is not None:
        return why
    if op.attrs.get("dynamic") == "row":
        return "convolution with activations quantized per row (LiteRT quantizes the whole input)"
    if op.attrs.get("dynamic") and op.attrs["groups"] > 1:
        return "convolution in groups with activations quantized at run time"
    return None


@lower("conv_transpose")
def conv_transpose(e, op: Op, x: T, w: T, b: T | None) -> T:
    """A convolution that computes every phase of the stride as channels, then interleaves and crops.

    TRANSPOSE_CONV wants its output's shape as numbers, which a file for any length does not have.
    """
    a = op.attrs
    groups, per = a["groups"], w.sizes[1]
    stride, dilation, pads, more, kernel = a["stride"], a["dilation"], a["pad"], a["output_pad"], w.sizes[2:]
    w = constant(w)
    weights = w.array
    if len(kernel) == 1:
        x = e.reshape(x, (x.sizes[0], 1, *x.sizes[1:]))
        stride, dilation, pads, more = (1, *stride), (1, *dilation), ((0, 0), *pads), (0, *more)
        weights = weights[:, :, None, :]
    weights = dilated(weights, dilation)
    (kh, kw), (sh, sw) = weights.shape[2:], stride
    taps = (-(-kh // sh), -(-kw // sw))
    full = np.zeros((*weights.shape[:2], taps[0] * sh, taps[1] * sw), weights.dtype)
    full[:, :, :kh, :kw] = weights
    # [groups, in, out, tap, phase, tap, phase] -> out channels by (phase h, phase w, output), taps backwards
    parts = full.reshape(groups, -1, per, taps[0], sh, taps[1], sw)[:, :, :, ::-1, :, ::-1]
    filters = parts.transpose(0, 4, 6, 2, 3, 5, 1).reshape(groups * sh * sw * per, *taps, -1)
    scales = phase_scales(e, w, filters)
    grown = e.pad(x, ((0, 0), *((t - 1, t - 1) for t in taps), (0, 0)))
    if filters.shape[-1] == 1 and len(filters) == groups and in_parts(e, op, x, w, taps, (1, 1)):
        real = filters if scales is None else filters * scales[0].reshape(-1, 1, 1, 1)
        y = summed(e, grown, w, real[..., 0], None, (1, 1), (1, 1))
    else:
        filters = widened(e, op, x, e.derived(w, "phases", np.ascontiguousarray(filters), scales))
        space = [s + t - 1 for s, t in zip(x.sizes[1:3], taps)]
        y = e.op("CONV_2D", [grown, filters, e.const(np.zeros(filters.sizes[0], np.float32))], "f32",
                 (x.sizes[0], *space, filters.sizes[0]), padding=VALID, strideH=1, strideW=1, dilationHFactor=1,
                 dilationWFactor=1)  # fmt: skip
    y = interleaved(e, y, groups, sh, sw, per)
    for axis, (s, k, st, (p, q), o) in enumerate(zip(x.sizes[1:3], (kh, kw), stride, pads, more), 1):
        want = (s - 1) * st + k + o - q
        if isinstance(o, int) and o > 0:
            missing = want - y.sizes[axis]
            if isinstance(missing, int) and missing > 0:
                y = e.pad(y, [(0, missing if i == axis else 0) for i in range(4)])
        y = e.slice(y, axis, p, want)
    if b is not None:
        y = e.add(y, b)
    return e.reshape(y, op.result.type.sizes)


def phase_scales(e, w: T, filters: np.ndarray):
    """Scales of the kernel [C, outputs, …] for its phases as channels: those of the outputs, again and again."""
    if w.quant is None:
        return None
    scales, _, axis = e._quant(w.quant)
    count = len(filters) if len(scales) > 1 else 1
    assert axis == 1 or len(scales) == 1, "scales go along outputs"
    return np.resize(scales, count), np.zeros(count, np.int64), 0


def dilated(w: np.ndarray, dilation) -> np.ndarray:
    """The kernel with zeros between its taps."""
    if all(d == 1 for d in dilation):
        return w
    out = np.zeros((*w.shape[:2], *((k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation))), w.dtype)
    out[:, :, :: dilation[0], :: dilation[1]] = w
    return out


def interleaved(e, y: T, groups: int, sh: int, sw: int, per: int) -> T:
    """[N, H, W, groups·sh·sw·per] -> [N, H·sh, W·sw, groups·per]."""
    n, h, w = y.sizes[:3]
    if groups > 1 and sh * sw > 1:  # phases in front of groups
        y = e.reshape(y, (n, h * w, groups, sh * sw, per))
        y = e.transpose(y, (0, 1, 3, 2, 4))
    if sh > 1:
        y = e.reshape(y, (n, h, w, sh, sw * groups * per))
        y = e.transpose(y, (0, 1, 3, 2, 4))
    return e.reshape(y, (n, h * sh, w * sw, groups * per))


@refuse("conv_transpose")
def conv_transpose_form(op: Op) -> str | None:
    return window_form(op)

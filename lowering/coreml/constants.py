"""Weights as MIL constants: plain, float16 that is widened, or int8 codes that Core ML unpacks as it loads."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Value

BLOCKWISE = 18  # the release from which scales of codes have the codes' own rank
PACKED = 16  # the release from which constants can be stored in fewer bits
SMALLEST = 2.0**-14  # of normal float16 numbers: smaller scales lose digits
INT32 = np.iinfo(np.int32)
NUMPY_TYPE = {"f32": np.float32, "f16": np.float16, "i32": np.int32, "i64": np.int32, "bool": np.bool_,
              "i8": np.int8, "u8": np.uint8}  # fmt: skip


def narrowed(array: np.ndarray) -> np.ndarray:
    """`array` in an element type that Core ML has: int64 as int32, clipped to its range."""
    if array.dtype == np.int64:
        return np.clip(array, INT32.min, INT32.max).astype(np.int32)
    return array


def behind(v: Value) -> Value | None:
    """The weight that `v` is, or is unpacked from: by `dequantize`, or by a cast from float16. None for others."""
    if v.kind == "weight":
        return v
    if v.kind != "result" or v.op.kind not in ("dequantize", "cast"):
        return None
    source = v.op.operands[0]
    wide = v.op.kind == "dequantize" or (source.type.dtype, v.type.dtype) == ("f16", "f32")
    return source if source.kind == "weight" and wide else None


def constant(e, v: Value, form: str = "", rows: np.ndarray | None = None):
    """The MIL constant of a value for which `behind` finds a weight, once a graph; `rows` reorders its first axis.

    `form` names the order, so that a weight used twice in one order is stored once.
    """
    w = behind(v)
    key = ("constant", w.name, v.type.dtype if w.type.quant is None else e.real_of(v), form)
    if key not in e.cache:
        assert not e.looping, "a constant made inside a loop's body ends with it"
        e.cache[key] = _build(e, v, w, form, rows)
    return e.cache[key]


def _build(e, v: Value, w: Value, form: str, rows: np.ndarray | None):
    array = narrowed(w.array)
    array = array if rows is None else array[rows]
    name = f"{w.name}.{form}" if form else w.name
    if w.type.quant is not None:
        return _unpacked(e, w, array, name, rows, e.real_of(v))
    if v is not w:
        if e.release >= PACKED and array.ndim:
            return e.named(name, "constexpr_cast", source_val=array, output_dtype="fp32")
        array = array.astype(np.float32)
    return e.named(name, "const", val=np.ascontiguousarray(array) if array.ndim else array[()])


def _unpacked(e, w: Value, codes: np.ndarray, name: str, rows: np.ndarray | None, dtype: str):
    """scale * (codes - zero), in `dtype`."""
    quant = w.type.quant
    scale = np.float32(quant.scale) if isinstance(quant.scale, float) else e.graph.weights[quant.scale].array
    if rows is not None and quant.axis == 0:
        scale = scale[rows]
    if quant.axis is None:
        scale = np.float32(np.ravel(scale)[0])
    if not codes.ndim or e.release < PACKED:
        shape = [-1 if i == quant.axis else 1 for i in range(codes.ndim)]
        real = (codes.astype(np.float32) - quant.zero_point) * np.reshape(scale, shape)
        return e.named(name, "const", val=real.astype(np.float16 if dtype == "f16" else np.float32))
    wide = dtype == "f16" and np.min(scale) < SMALLEST
    scale = scale if wide or dtype == "f32" else scale.astype(np.float16)
    if e.release >= BLOCKWISE:
        scale = np.reshape(scale, [-1 if i == quant.axis else 1 for i in range(codes.ndim)])
        zero = {"offset": np.full(scale.shape, quant.zero_point, codes.dtype)} if quant.zero_point else {}
        made = e.named(name, "constexpr_blockwise_shift_scale", data=codes, scale=scale, **zero)
    else:
        zero = codes.dtype.type(quant.zero_point)
        made = e.named(
            name, "constexpr_affine_dequantize", quantized_data=codes, zero_point=zero, scale=scale,
            axis=np.int32(quant.axis or 0),
        )  # fmt: skip
    return e.cast(made, "f32", "f16") if wide else made

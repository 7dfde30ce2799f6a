"""MIL's quantized and compressed values: quantize, dequantize, and the constexpr ops that unpack weights.

All products are taken in float32 and rounded once, to the type of the scale (or of the table of values).
"""

from __future__ import annotations

import numpy as np

from .mil_file import TYPES
from .mil_table import Refused, mil


def _along(vector, data, axis):
    """A scale or zero point, one for all or one for each place of `axis`."""
    if vector.ndim == 0:
        return vector
    if axis is None:
        raise Refused("a scale for each channel needs an axis")
    shape = [1] * data.ndim
    shape[int(axis)] = -1
    if len(vector) != data.shape[int(axis)] and len(vector) != 1:
        raise Refused(f"{len(vector)} scales for {data.shape[int(axis)]} channels")
    return vector.reshape(shape)


@mil("quantize", since=17, gives="@output_dtype")
def quantize(input, scale, output_dtype, zero_point=None, axis=None):
    """clip(round(x / scale) + zero point); halves round to even."""
    kind = np.dtype(TYPES[output_dtype][1])
    if zero_point is not None and zero_point.dtype != kind:
        raise Refused(f"a zero point of {zero_point.dtype} for {kind}")
    shift = 0 if zero_point is None else _along(zero_point, input, axis).astype(np.float32)
    limits = np.iinfo(kind)
    return np.clip(np.round(input / _along(scale, input, axis)) + shift, limits.min, limits.max).astype(kind)


@mil("dequantize", since=17, gives="scale")
def dequantize(input, scale, zero_point=None, axis=None):
    """(q - zero point) * scale."""
    if zero_point is not None and zero_point.dtype != input.dtype:
        raise Refused(f"a zero point of {zero_point.dtype} for {input.dtype}")
    shift = 0 if zero_point is None else _along(zero_point, input, axis).astype(np.float32)
    return (input.astype(np.float32) - shift) * _along(scale, input, axis)


@mil("constexpr_affine_dequantize", since=16, gives="scale")
def constexpr_affine_dequantize(quantized_data, zero_point, scale, axis):
    shift = _along(zero_point, quantized_data, axis).astype(np.float32)
    return (quantized_data.astype(np.float32) - shift) * _along(scale, quantized_data, axis)


@mil("constexpr_cast", since=16, gives="@output_dtype")
def constexpr_cast(source_val, output_dtype):
    return source_val.astype(TYPES[output_dtype][1])


def _bits(data, width, count):
    """`count` numbers of `width` bits, packed from the least significant bit on."""
    places = np.unpackbits(data, bitorder="little")[: count * width].reshape(count, width)
    return places @ (1 << np.arange(width))


@mil("constexpr_lut_to_dense", since=16, gives="lut")
def constexpr_lut_to_dense(indices, lut, shape):
    """indices: bytes of packed indices into lut, which has 2^bits values."""
    sizes = [int(s) for s in shape]
    width = int(lut.size).bit_length() - 1
    return lut[_bits(indices, width, int(np.prod(sizes)))].reshape(sizes)


@mil("constexpr_sparse_to_dense", since=16, gives="nonzero_data")
def constexpr_sparse_to_dense(nonzero_data, mask, shape):
    """mask: bytes of packed bits, one an element, set where the next value goes."""
    sizes = [int(s) for s in shape]
    return _dense(nonzero_data, _bits(mask, 1, int(np.prod(sizes))).reshape(sizes))


def _dense(values, mask):
    if np.count_nonzero(mask) != len(values):
        raise Refused(f"{len(values)} values for {np.count_nonzero(mask)} places")
    y = np.zeros(mask.shape, values.dtype)
    y[mask != 0] = values
    return y


def _spread(x, shape):
    """Blocks of equal values: every dimension repeated to the size in `shape`."""
    for axis, (have, want) in enumerate(zip(x.shape, shape)):
        if want % have:
            raise Refused(f"{have} blocks in a dimension of {want}")
        x = np.repeat(x, want // have, axis)
    return x


@mil("constexpr_blockwise_shift_scale", since=18, gives="scale")
def constexpr_blockwise_shift_scale(data, scale, offset=None):
    """(data - offset) * scale, both given for blocks of data."""
    shift = 0 if offset is None else _spread(offset, data.shape).astype(np.float32)
    return (data.astype(np.float32) - shift) * _spread(scale, data.shape)


@mil("constexpr_lut_to_dense", since=18, gives="lut")
def constexpr_lut_to_dense_blockwise(indices, lut, vector_axis=None):
    """lut [*blocks, values, vector]: each index becomes a vector along `vector_axis`."""
    n = indices.ndim
    blocks, vector = lut.shape[:n], lut.shape[-1]
    if lut.ndim != n + 2 or (vector > 1 and vector_axis is None):
        raise Refused(f"a table of {list(lut.shape)} for indices of {list(indices.shape)}")
    at = np.ogrid[tuple(slice(s) for s in indices.shape)]
    place = tuple(a // (size // b) for a, size, b in zip(at, indices.shape, blocks))
    found = lut[(*place, indices.astype(np.int64))]
    if vector == 1:
        return found[..., 0]
    axis = int(vector_axis) % n
    joined = np.moveaxis(found, -1, axis + 1)
    return joined.reshape(*joined.shape[:axis], -1, *joined.shape[axis + 2 :])


@mil("constexpr_sparse_to_dense", since=18, gives="nonzero_data")
def constexpr_sparse_to_dense_masked(nonzero_data, mask):
    return _dense(nonzero_data, mask)


@mil("constexpr_lut_to_sparse", since=18, gives=("indices_mask", "lut"))
def constexpr_lut_to_sparse(indices_mask, indices_nonzero_data, lut, vector_axis=None):
    """The mask, repeated for vectors, and the values at its places."""
    full = constexpr_lut_to_dense_blockwise(_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask if lut.shape[-1] == 1 else np.repeat(indices_mask, lut.shape[-1], int(vector_axis))
    return mask, full[mask != 0]


@mil("constexpr_sparse_blockwise_shift_scale", since=18, gives=("data_mask", "scale"))
def constexpr_sparse_blockwise_shift_scale(data_mask, nonzero_data, scale, offset=None):
    full = constexpr_blockwise_shift_scale(_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, full[data_mask != 0]

"""MIL's ops that change shapes: reshape, transpose, join, split, pad, repeat, fill, and ranges."""

from __future__ import annotations

import math

import numpy as np

from .mil_table import Refused, mil


def _reshape(x, sizes):
    """`sizes` with at most one -1."""
    sizes = [int(s) for s in sizes]
    if sizes.count(-1) > 1:
        raise Refused(f"{sizes} leaves more than one size open")
    return x.reshape(sizes)


@mil("reshape", moves=True)
def reshape(x, shape):
    """0 stands for the size of x at that place; there are as many sizes as x has, then."""
    if 0 in shape and len(shape) != x.ndim:
        raise Refused(f"0 in {list(shape)} needs as many sizes as {list(x.shape)} has, before iOS 17")
    return _reshape(x, [x.shape[i] if s == 0 else s for i, s in enumerate(shape)])


@mil("reshape", since=17, moves=True)
def reshape_from_the_right(x, shape):
    """0 stands for the size of x at that place counted from the right, 1 beyond its rank."""
    shift = x.ndim - len(shape)
    own = [x.shape[i + shift] if i + shift >= 0 else 1 for i in range(len(shape))]
    return _reshape(x, [o if s == 0 else s for o, s in zip(own, shape)])


@mil("reshape_like", since=16, moves=True)
def reshape_like(x, ref_tensors: tuple, begins: tuple, ends: tuple, end_masks: tuple):
    """Sizes begins[i] to ends[i] of every tensor, or to its last one where the mask is set."""
    parts = (
        t.shape[int(b) :] if mask else t.shape[int(b) : int(e)]
        for t, b, e, mask in zip(ref_tensors, begins, ends, end_masks, strict=True)
    )
    return x.reshape([size for part in parts for size in part])


@mil("flatten2d", moves=True)
def flatten2d(x, axis=1):
    axis = int(axis)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@mil("transpose", moves=True)
def transpose(x, perm):
    return x.transpose([int(p) for p in perm])


@mil("expand_dims", moves=True)
def expand_dims(x, axes):
    """Places in the result."""
    return np.expand_dims(x, tuple(int(a) for a in axes))


@mil("squeeze", moves=True)
def squeeze(x, axes=None):
    """Dimensions of another size than 1 stay."""
    axes = range(x.ndim) if axes is None else [int(a) % x.ndim for a in axes]
    return x.reshape([size for i, size in enumerate(x.shape) if i not in axes or size != 1])


@mil("concat", alike=("values",), moves=True)
def concat(values: tuple, axis, interleave=False):
    """Interleaved: element 0 of each, element 1 of each, and so on."""
    axis = int(axis)
    if not interleave:
        return np.concatenate([np.atleast_1d(v) for v in values], axis)
    axis %= values[0].ndim
    joined = np.stack(values, axis + 1)
    return joined.reshape(*joined.shape[:axis], -1, *joined.shape[axis + 2 :])


@mil("stack", alike=("values",), moves=True)
def stack(values: tuple, axis):
    return np.stack(values, int(axis))


@mil("split", moves=True)
def split(x, axis, num_splits=None, split_sizes=None):
    axis = int(axis)
    if split_sizes is None:
        if num_splits is None or x.shape[axis] % int(num_splits):
            raise Refused(f"{x.shape[axis]} elements do not split into {num_splits} equal parts")
        return tuple(np.split(x, int(num_splits), axis))
    if int(np.sum(split_sizes)) != x.shape[axis]:
        raise Refused(f"parts of {list(split_sizes)} do not make {x.shape[axis]}")
    return tuple(np.split(x, np.cumsum(split_sizes)[:-1], axis))


@mil("pad", moves=True)
def pad(x, pad, mode="constant", constant_val=0.0):
    """`pad` holds (before, after) of the last dimensions, in order."""
    sides = np.asarray(pad).reshape(-1, 2)
    if (sides < 0).any():
        raise Refused(f"padding of {list(pad)} is negative")
    sides = [(0, 0)] * (x.ndim - len(sides)) + [(int(a), int(b)) for a, b in sides]
    if mode == "constant":
        return np.pad(x, sides, constant_values=np.asarray(constant_val).astype(x.dtype))
    if mode == "reflect":
        if any(max(s) >= n for s, n in zip(sides, x.shape) if max(s)):
            raise Refused(f"reflection by {list(pad)} is longer than {list(x.shape)} allows")
        return np.pad(x, sides, "reflect")
    if mode == "replicate":
        return np.pad(x, sides, "edge")
    raise Refused(f"the mode {mode} is not known")


@mil("tile", moves=True)
def tile(x, reps):
    return np.tile(x, [int(r) for r in reps])


@mil("reverse", moves=True)
def reverse(x, axes=None):
    return np.flip(x, None if axes is None else tuple(int(a) for a in axes))


@mil("reverse_sequence", moves=True)
def reverse_sequence(x, lengths, seq_axis=0, batch_axis=0):
    """The first lengths[i] elements of row i, backward; the rest as they are."""
    y = x.copy()
    for i, n in enumerate(lengths):
        at = [slice(None)] * x.ndim
        at[int(batch_axis)] = slice(i, i + 1)
        at[int(seq_axis)] = slice(0, int(n))
        y[tuple(at)] = np.flip(x[tuple(at)], int(seq_axis))
    return y


@mil("sliding_windows", moves=True)
def sliding_windows(x, axis, size, stride=1):
    """[..., T, ...] to [..., windows, size, ...]."""
    axis = int(axis) % x.ndim
    found = np.lib.stride_tricks.sliding_window_view(x, int(size), axis)
    return np.moveaxis(found, -1, axis + 1)[(slice(None),) * axis + (slice(None, None, int(stride)),)]


@mil("shape", gives="=int32", moves=True)
def shape(x):
    return np.asarray(x.shape, np.int32)


@mil("fill", gives="value", moves=True)
def fill(shape, value=0.0):
    return np.full([int(s) for s in shape], value)


@mil("fill_like", since=16, gives="value", moves=True)
def fill_like(ref_tensor, value=0.0):
    return np.full(ref_tensor.shape, value)


@mil("range_1d")
def range_1d(start, end, step):
    count = max(0, math.ceil((float(end) - float(start)) / float(step)))
    return (start + np.arange(count).astype(start.dtype) * step).astype(start.dtype)


@mil("band_part")
def band_part(x, lower=-1, upper=-1):
    """Elements (m, n) of the last two dimensions with m - n <= lower and n - m <= upper; others become 0."""
    m, n = np.ogrid[: x.shape[-2], : x.shape[-1]]
    kept = ((lower < 0) | (m - n <= lower)) & ((upper < 0) | (n - m <= upper))
    # A product, as Apple defines it: infinity outside the band becomes NaN.
    return x & kept if x.dtype == bool else x * kept.astype(x.dtype)


@mil("crop", moves=True)
def crop(x, crop_height, crop_width):
    """Without so many elements at the two ends of the last two dimensions."""
    (top, bottom), (left, right) = crop_height, crop_width
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


# Blocks of channels, pixels and batches: [B, C, H, W]


@mil("space_to_batch", moves=True)
def space_to_batch(x, block_shape, paddings):
    """Every block's elements go to batches of their own, which stand in front of the batch."""
    sides = [(0, 0), (0, 0), *((int(a), int(b)) for a, b in paddings)]
    b, c, h, w = np.pad(x, sides).shape
    s, t = (int(n) for n in block_shape)
    y = np.pad(x, sides).reshape(b, c, h // s, s, w // t, t).transpose(3, 5, 0, 1, 2, 4)
    return y.reshape(s * t * b, c, h // s, w // t)


@mil("batch_to_space", moves=True)
def batch_to_space(x, block_shape, crops):
    b, c, h, w = x.shape
    s, t = (int(n) for n in block_shape)
    y = x.reshape(s, t, b // (s * t), c, h, w).transpose(2, 3, 4, 0, 5, 1).reshape(b // (s * t), c, h * s, w * t)
    return crop(y, *crops)


@mil("depth_to_space", moves=True)
def depth_to_space(x, block_size):
    b, c, h, w = x.shape
    s = int(block_size)
    y = x.reshape(b, s, s, c // (s * s), h, w).transpose(0, 3, 4, 1, 5, 2)
    return y.reshape(b, c // (s * s), h * s, w * s)


@mil("space_to_depth", moves=True)
def space_to_depth(x, block_size):
    b, c, h, w = x.shape
    s = int(block_size)
    y = x.reshape(b, c, h // s, s, w // s, s).transpose(0, 3, 5, 1, 2, 4)
    return y.reshape(b, c * s * s, h // s, w // s)


@mil("pixel_shuffle", moves=True)
def pixel_shuffle(x, upscale_factor):
    b, c, h, w = x.shape
    s = int(upscale_factor)
    y = x.reshape(b, c // (s * s), s, s, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(b, c // (s * s), h * s, w * s)


@mil("pixel_unshuffle", since=16, moves=True)
def pixel_unshuffle(x, downscale_factor):
    b, c, h, w = x.shape
    s = int(downscale_factor)
    y = x.reshape(b, c, h // s, s, w // s, s).transpose(0, 1, 3, 5, 2, 4)
    return y.reshape(b, c * s * s, h // s, w // s)

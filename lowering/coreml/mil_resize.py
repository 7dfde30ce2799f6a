"""MIL's interpolation: upsampling by factors and resizing to sizes, linear and nearest, with its five grids."""

from __future__ import annotations

import math

import numpy as np

from .mil_table import Refused, mil

# Where sample i of `out` lies among `size` samples: Apple's formulas (iOS 15, resize_bilinear).
GRIDS = {
    "STRICT_ALIGN_CORNERS": lambda i, size, out: i * (size - 1) / max(1, out - 1),
    "ALIGN_CORNERS": lambda i, size, out: i * (size - 1) / (out - 1) if out > 1 else i + (size - 1) / 2,
    "DEFAULT": lambda i, size, out: i * size / out,
    "OFFSET_CORNERS": lambda i, size, out: (i + 0.5) * max(1, size - 1) / out,
    "UNALIGN_CORNERS": lambda i, size, out: (i + 0.5) * size / out - 0.5,
}


def _grid(mode, size, out):
    if mode not in GRIDS:
        raise Refused(f"the sampling mode {mode} is not one of {', '.join(GRIDS)}")
    return np.clip(GRIDS[mode](np.arange(out), size, out), 0, size - 1)


def _linear(x, axis, out, mode):
    at = _grid(mode, x.shape[axis], out)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    part = (at - low).astype(x.dtype).reshape(-1, *(1,) * (-axis - 1))
    return np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part


def _nearest(x, axis, out):
    """The sample whose span holds the middle of the new one."""
    size = x.shape[axis]
    return np.take(x, np.minimum(((np.arange(out) + 0.5) * size / out).astype(int), size - 1), axis)


def _factors(x, height, width):
    return [(-2, math.floor(float(height) * x.shape[-2])), (-1, math.floor(float(width) * x.shape[-1]))]


@mil("upsample_nearest_neighbor")
def upsample_nearest_neighbor(x, scale_factor_height=1, scale_factor_width=1):
    """The sample whose span holds the beginning of the new one; resizing, below, takes the middle."""
    for axis, out in _factors(x, scale_factor_height, scale_factor_width):
        x = np.take(x, np.arange(out) * x.shape[axis] // out, axis)
    return x


@mil("upsample_bilinear", later={"half_pixel_centers": 16})
def upsample_bilinear(x, scale_factor_height=1, scale_factor_width=1, align_corners=True, half_pixel_centers=None):
    """The spacing follows from the sizes, as in PyTorch with recompute_scale_factor."""
    half = not align_corners if half_pixel_centers is None else bool(half_pixel_centers)
    if align_corners and half:
        raise Refused("align_corners and half_pixel_centers exclude each other")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    for axis, out in _factors(x, scale_factor_height, scale_factor_width):
        x = _linear(x, axis, out, mode)
    return x


@mil("resize_nearest_neighbor")
def resize_nearest_neighbor(x, target_size_height, target_size_width):
    return _nearest(_nearest(x, -2, int(target_size_height)), -1, int(target_size_width))


@mil("resize_bilinear")
def resize_bilinear(x, target_size_height=1, target_size_width=1, sampling_mode="DEFAULT"):
    return _linear(_linear(x, -2, int(target_size_height), sampling_mode), -1, int(target_size_width), sampling_mode)


@mil("resize", since=17)
def resize(x, shape, resized_dims, interpolation_mode="LINEAR", sampling_mode="DEFAULT"):
    """The last `resized_dims` sizes become the last ones of `shape`; 0 keeps a size."""
    n = int(resized_dims)
    kind = x.dtype
    y = x.astype(np.float32) if kind.kind in "iu" else x
    for axis in range(-n, 0):
        out = int(shape[axis]) or x.shape[axis]
        if interpolation_mode == "LINEAR":
            y = _linear(y, axis, out, sampling_mode)
        elif interpolation_mode == "NEAREST_NEIGHBOR":
            y = _nearest(y, axis, out)
        else:
            raise Refused(f"the interpolation {interpolation_mode} is not known")
    return y.astype(kind)

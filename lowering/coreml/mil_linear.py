"""MIL's products: convolutions, matrix products, einsum and attention."""

from __future__ import annotations

import itertools
import math

import numpy as np

from .mil_table import Refused, mil


def window_pads(pad_type, pad, sizes, kernel, strides) -> list[tuple[int, int]]:
    """Zeros in front of and behind each spatial dimension; `kernel` counts its dilation.

    "same" makes ceil(size / stride) windows and puts an odd zero behind, "same_lower" in front.
    """
    pad_type = pad_type.lower()
    if pad_type == "valid":
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        if len(pad) != 2 * len(kernel):
            raise Refused(f"pad has {len(pad)} entries, not {2 * len(kernel)}")
        return [(int(pad[2 * i]), int(pad[2 * i + 1])) for i in range(len(kernel))]
    if pad_type not in ("same", "same_lower"):
        raise Refused(f"pad_type {pad_type} is not known")
    total = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(sizes, kernel, strides)]
    return [(t // 2, t - t // 2) if pad_type == "same" else (t - t // 2, t // 2) for t in total]


def windows(x, kernel, strides, dilations):
    """Every window of [B, C, *D] as [B, C, *out, *kernel]."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    axes = tuple(range(2, x.ndim))
    if any(n < s for n, s in zip(x.shape[2:], spans)):
        raise Refused(f"sizes {x.shape[2:]} are smaller than the kernel, {tuple(spans)}")
    found = np.lib.stride_tricks.sliding_window_view(x, spans, axes)
    at = [slice(None, None, int(s)) for s in strides]
    inside = [slice(None, None, int(d)) for d in dilations]
    return found[(slice(None), slice(None), *at, *inside)]


@mil("conv")
def conv(x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None, groups=1):
    """x [B, Cin, *D], weight [Cout, Cin/groups, *K]."""
    n = x.ndim - 2
    kernel, groups = weight.shape[2:], int(groups)
    strides, dilations = _each(strides, n), _each(dilations, n)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    x = np.pad(x, [(0, 0), (0, 0), *window_pads(pad_type, pad, x.shape[2:], spans, strides)])
    if x.shape[1] != groups * weight.shape[1]:
        raise Refused(f"{x.shape[1]} channels in {groups} groups do not fit a kernel of {weight.shape[1]}")
    found = windows(x, kernel, strides, dilations)
    batch, channels, out = x.shape[0], x.shape[1], found.shape[2 : 2 + n]
    found = found.reshape(batch, groups, channels // groups, *out, *kernel)
    order = (0, 1, *range(3, 3 + n), 2, *range(3 + n, 3 + 2 * n))
    rows = found.transpose(order).reshape(batch, groups, math.prod(out), -1)
    columns = weight.reshape(groups, weight.shape[0] // groups, -1).swapaxes(1, 2)
    y = (rows @ columns).swapaxes(2, 3).reshape(batch, weight.shape[0], *out)
    return y if bias is None else y + bias.reshape(-1, *(1,) * n)


@mil("conv_transpose")
def conv_transpose(
    x, weight, bias=None, pad=None, output_shape=None, pad_type="valid", strides=None, dilations=None, groups=1
):
    """x [B, Cin, *D], weight [Cin, Cout/groups, *K]: every frame adds its kernel, `pad` is cut off."""
    n, groups = x.ndim - 2, int(groups)
    kernel, sizes, batch = weight.shape[2:], x.shape[2:], x.shape[0]
    strides, dilations = _each(strides, n), _each(dilations, n)
    full = [(d - 1) * s + (k - 1) * r + 1 for d, s, k, r in zip(sizes, strides, kernel, dilations)]
    rows = x.reshape(batch, groups, x.shape[1] // groups, -1).swapaxes(2, 3)
    columns = weight.reshape(groups, weight.shape[0] // groups, -1)
    spread = (rows @ columns).swapaxes(2, 3).reshape(batch, groups * weight.shape[1], *kernel, *sizes)
    y = np.zeros((batch, groups * weight.shape[1], *full), x.dtype)
    for at in itertools.product(*map(range, kernel)):
        place = [slice(p * r, p * r + (d - 1) * s + 1, s) for p, r, d, s in zip(at, dilations, sizes, strides)]
        y[(slice(None), slice(None), *place)] += spread[(slice(None), slice(None), *at)]
    y = _cut(y, *_crop(pad_type, pad, output_shape, full, sizes, strides))
    return y if bias is None else y + bias.reshape(-1, *(1,) * n)


def _crop(pad_type, pad, output_shape, full, sizes, strides) -> tuple[list[int], list[int]]:
    """Where a transposed convolution's result begins in the full one, and its sizes."""
    n = len(full)
    if pad_type.lower() == "same":
        out = [d * s for d, s in zip(sizes, strides)]
        return [max(0, (f - o) // 2) for f, o in zip(full, out)], out
    pads = window_pads(pad_type, pad, sizes, [0] * n, strides)
    begin = [p for p, _ in pads]
    if output_shape is not None:
        return begin, [int(o) for o in output_shape[2:]]
    return begin, [f - a - b for f, (a, b) in zip(full, pads)]


def _cut(y, begin, out):
    """`out` elements from `begin` on, zeros beyond the end."""
    missing = [(0, max(0, b + o - f)) for b, o, f in zip(begin, out, y.shape[2:])]
    y = np.pad(y, [(0, 0), (0, 0), *missing])
    return y[(slice(None), slice(None), *(slice(b, b + o) for b, o in zip(begin, out)))]


@mil("linear")
def linear(x, weight, bias=None):
    y = x @ weight.T
    return y if bias is None else y + bias


@mil("matmul", alike=("x", "y"))
@mil("matmul", since=17, gives="x|y")
def matmul(x, y, transpose_x=False, transpose_y=False):
    x = x.swapaxes(-1, -2) if transpose_x and x.ndim > 1 else x
    y = y.swapaxes(-1, -2) if transpose_y and y.ndim > 1 else y
    return x @ y


@mil("einsum")
def einsum(values: tuple, equation):
    """Sizes of 1 stretch to the other operand's, as numpy does."""
    return np.einsum(equation, *values, optimize=True)


@mil("scaled_dot_product_attention", since=18)
def scaled_dot_product_attention(query, key, value, attn_mask=None):
    """softmax(Q Kᵀ / √E + mask) V; a mask of bools keeps the positions that are true."""
    scores = query @ key.swapaxes(-1, -2) / np.float32(math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return ((weights / weights.sum(-1, keepdims=True)) @ value).astype(query.dtype)


def _each(values, n) -> list[int]:
    return [1] * n if values is None else [int(v) for v in values]

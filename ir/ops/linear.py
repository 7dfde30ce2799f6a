"""Matrix products and convolutions: matmul, linear, conv, conv_transpose."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

from ..errors import IRError
from ..expr import floordiv, same
from ..registry import op
from ..types import Dim, Tensor, broadcast, edge_free, resized


@op
def matmul(a, b):
    """Matrix product over the last two dimensions, the ones before broadcast."""
    return np.matmul(a, b)


@matmul.rule
def _(a, b):
    if a.rank < 2 or b.rank < 2 or a.dtype != b.dtype:
        raise IRError("wants two operands of rank 2 or more and one element type")
    if not same(a.shape[-1].size, b.shape[-2].size):
        raise IRError(f"inner sizes differ: {a.shape[-1]} and {b.shape[-2]}")
    return Tensor(a.dtype, (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))


@op
def linear(x, w, b=None):
    """x @ wᵀ + b over the last dimension; w is [outputs, inputs], b [outputs]."""
    y = np.matmul(x, w.T)
    return y if b is None else y + b


@linear.rule
def _(x, w, b):
    if x.rank < 1 or w.rank != 2 or not same(x.shape[-1].size, w.shape[1].size):
        raise IRError("wants x of [..., inputs] and w of [outputs, inputs]")
    if b is not None and (b.rank != 1 or not same(b.shape[0].size, w.shape[0].size)):
        raise IRError("wants b of [outputs]")
    return Tensor(x.dtype, (*x.shape[:-1], w.shape[0]))


def windows(x: np.ndarray, kernel, stride, dilation) -> np.ndarray:
    """[N, C, *S] -> [N, C, *O, *kernel]: what each position of a sliding window sees (a view)."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, x.ndim)))
    n = len(kernel)
    pick = (np.s_[:], np.s_[:], *(np.s_[::s] for s in stride), *(np.s_[::d] for d in dilation))
    assert seen.ndim == 2 + 2 * n
    return seen[pick]


def padded(x: np.ndarray, pad, value=0.0) -> np.ndarray:
    return np.pad(x, [(0, 0), (0, 0), *pad], constant_values=x.dtype.type(value)) if any(map(any, pad)) else x


def channel_first(x: np.ndarray, last: bool) -> np.ndarray:
    return np.moveaxis(x, -1, 1) if last else x


def channel_back(y: np.ndarray, last: bool) -> np.ndarray:
    return np.moveaxis(y, 1, -1) if last else y


@lru_cache(maxsize=4096)
def window_dim(d: Dim, kernel: int, stride: int, dilation: int, pad: tuple[int, int]) -> Dim:
    """The dimension that a window of `kernel` taps slides out of `d`: ⌊(n + pads - reach) / stride⌋ + 1."""
    room = d.size + pad[0] + pad[1] - (kernel - 1) * dilation - 1
    size = floordiv(room, stride) + 1
    if isinstance(size, int) and size < 1:
        raise IRError(f"a window of {kernel} does not fit into {d}")
    edge_free(d, pad)
    return resized(
        d, size, Fraction(1, stride), lambda n: floordiv(n + sum(pad) - (kernel - 1) * dilation - 1, stride) + 1
    )


def spatial(x: Tensor, last: bool) -> tuple[Dim, ...]:
    """The dimensions that a window moves along."""
    return x.shape[1:-1] if last else x.shape[2:]


def laid_out(batch: Dim, channels: Dim, space, last: bool) -> tuple[Dim, ...]:
    return (batch, *space, channels) if last else (batch, channels, *space)


@op
def conv(x, w, b=None, *, stride=(1,), dilation=(1,), pad=((0, 0),), groups=1, channel_last=False):
    """Cross-correlation over one or two spatial dimensions, zeros for padding.

    x is [N, C, *S] ([N, *S, C] if `channel_last`), w always [outputs, C / groups, *kernel], b [outputs]; stride,
    dilation and pad = (before, after) are given for each spatial dimension.
    """
    x = padded(channel_first(x, channel_last), pad)
    seen = windows(x, w.shape[2:], stride, dilation)
    n, c, space, taps = x.shape[0], x.shape[1], seen.shape[2 : x.ndim], seen.shape[x.ndim :]
    axes = len(taps)
    seen = seen.reshape(n, groups, c // groups, *space, *taps)
    seen = np.moveaxis(seen, 2, -1 - axes).reshape(n, groups, int(np.prod(space)), -1)
    y = np.matmul(seen, w.reshape(groups, w.shape[0] // groups, -1).transpose(0, 2, 1))
    y = y.transpose(0, 1, 3, 2).reshape(n, w.shape[0], *space)
    if b is not None:
        y = y + b.reshape(-1, *[1] * axes)
    return channel_back(y, channel_last)


@conv.rule
def _(x, w, b, *, stride, dilation, pad, groups, channel_last):
    n = x.rank - 2
    if n < 1 or w.rank != x.rank or not len(stride) == len(dilation) == len(pad) == n:
        raise IRError(
            "wants x [N, C, *S], w [outputs, C / groups, *kernel] and stride, dilation, pad per dimension of S"
        )
    channels = x.shape[-1 if channel_last else 1]
    if not same(channels.size, w.shape[1].size * groups) or w.sizes[0] % groups:
        raise IRError(f"{channels} channels in {groups} groups do not fit weights {w}")
    if b is not None and not (b.rank == 1 and same(b.shape[0].size, w.shape[0].size)):
        raise IRError("wants b of [outputs]")
    kernel = w.sizes[2:]
    space = [window_dim(*a) for a in zip(spatial(x, channel_last), kernel, stride, dilation, pad)]
    return Tensor(x.dtype, laid_out(x.shape[0], w.shape[0], space, channel_last))


@op
def conv_transpose(
    x, w, b=None, *, stride=(1,), dilation=(1,), pad=((0, 0),), output_pad=(0,), groups=1, channel_last=False
):
    """The transpose of `conv`: every input frame adds its kernel at stride · i; `pad` crops, `output_pad` adds behind.

    x is [N, C, *S], w [C, outputs / groups, *kernel], b [outputs].
    """
    x = channel_first(x, channel_last)
    n, c, space, kernel = x.shape[0], x.shape[1], x.shape[2:], w.shape[2:]
    per = w.shape[1]
    full = [(s - 1) * st + (k - 1) * d + 1 + o for s, st, k, d, o in zip(space, stride, kernel, dilation, output_pad)]
    y = np.zeros((n, groups * per, *full), x.dtype)
    taps = np.einsum("ngc...,gcok->ngok...", x.reshape(n, groups, c // groups, *space),
                     w.reshape(groups, c // groups, per, -1), optimize=True)  # fmt: skip
    for k, index in enumerate(np.ndindex(*kernel)):
        at = tuple(np.s_[i * d : i * d + (s - 1) * st + 1 : st] for i, d, s, st in zip(index, dilation, space, stride))
        y[(np.s_[:], np.s_[:], *at)] += taps[:, :, :, k].reshape(n, groups * per, *space)
    y = y[(np.s_[:], np.s_[:], *(np.s_[p : f - q] for (p, q), f in zip(pad, full)))]
    if b is not None:
        y = y + b.reshape(-1, *[1] * len(kernel))
    return channel_back(y, channel_last)


@conv_transpose.rule
def _(x, w, b, *, stride, dilation, pad, output_pad, groups, channel_last):
    n = x.rank - 2
    if n < 1 or w.rank != x.rank or not len(stride) == len(dilation) == len(pad) == len(output_pad) == n:
        raise IRError(
            "wants x [N, C, *S], w [C, outputs / groups, *kernel] and stride, dilation, pad per dimension of S"
        )
    if not same(x.shape[-1 if channel_last else 1].size, w.shape[0].size):
        raise IRError(f"channels of {x} do not fit weights {w}")
    space = []
    for d, k, s, dil, (p, q), o in zip(spatial(x, channel_last), w.sizes[2:], stride, dilation, pad, output_pad):
        edge_free(d, (p, q))
        full = lambda n, s=s, more=(k - 1) * dil + 1 + o - p - q: (n - 1) * s + more
        space.append(resized(d, full(d.size), s, full))
    return Tensor(x.dtype, laid_out(x.shape[0], Dim(w.sizes[1] * groups), space, channel_last))

"""Pooling: windows of a fixed size, and adaptive ones."""

from __future__ import annotations

from ....ir.expr import floordiv, same
from ....ir.graph import Value
from ..table import Context, aten, many


@aten("max_pool1d", "max_pool2d")
def _(c, x, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    return _max_pool(c, x, kernel_size, stride, padding, dilation, ceil_mode)


@aten("max_pool2d_with_indices", "max_pool1d_with_indices")
def _(c, x, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    if any("getitem" in str(u.target) and u.args[1] == 1 for u in c.node.users):
        raise c.no("its indices are used")
    return _max_pool(c, x, kernel_size, stride, padding, dilation, ceil_mode), None


def _max_pool(c: Context, x: Value, kernel, stride, padding, dilation, ceil_mode: bool) -> Value:
    n = _dimensions(c)
    kernel, dilation = many(kernel, n), many(dilation, n)
    stride = many(stride, n) if stride not in ((), [], None) else kernel
    pad = _pads(c, x, n, kernel, stride, many(padding, n), dilation, ceil_mode)
    return _batched(c, x, n, lambda x: c.b.max_pool(x, kernel=kernel, stride=stride, pad=pad, dilation=dilation))


@aten("avg_pool1d", "avg_pool2d")
def _(c, x, kernel_size, stride=(), padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    n = _dimensions(c)
    kernel = many(kernel_size, n)
    stride = many(stride, n) if stride not in ((), [], None) else kernel
    if ceil_mode and any(s != 1 for s in stride):
        raise c.no("ceil_mode is not supported for averages", "pad the input instead")
    pad = tuple((p, p) for p in many(padding, n))
    y = _batched(c, x, n, lambda x: c.b.avg_pool(x, kernel=kernel, stride=stride, pad=pad, count_pad=count_include_pad))
    if divisor_override is None:
        return y
    taps = 1
    for k in kernel:
        taps *= k
    return c.b.mul(y, c.b.const(taps / divisor_override, y.type.dtype))


@aten("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _(c, x, output_size):
    return _adaptive(c, x, c.b.mean, lambda x, **how: c.b.avg_pool(x, **how))


@aten("adaptive_max_pool1d", "adaptive_max_pool2d")
def _(c, x, output_size):
    return _adaptive(c, x, c.b.max, lambda x, **how: c.b.max_pool(x, **how, dilation=(1,) * len(how["kernel"]))), None


def _adaptive(c: Context, x: Value, reduce, pool) -> Value:
    n = _dimensions(c)
    first = x.type.rank - n
    shape = c.shape(x, index=0)
    whole = tuple(a for a in range(first, x.type.rank) if shape[a] == 1 and x.type.sizes[a] != 1)
    if whole:
        x = reduce(x, axes=whole, keepdims=True)
    kernel = []
    for a in range(first, x.type.rank):
        have, want = x.type.sizes[a], shape[a]
        if same(have, want):
            kernel.append(1)
        elif isinstance(have, int) and isinstance(want, int) and have % want == 0:
            kernel.append(have // want)
        else:
            raise c.no(f"pools {have} elements into {want}: windows of different sizes")
    if all(k == 1 for k in kernel):
        return x
    how = {"kernel": tuple(kernel), "stride": tuple(kernel), "pad": ((0, 0),) * n}
    return _batched(c, x, n, lambda x: pool(x, **how))


def _dimensions(c: Context) -> int:
    return 2 if "2d" in str(c.node.target) else 1


def _pads(c: Context, x: Value, n: int, kernel, stride, padding, dilation, ceil_mode: bool):
    pads = []
    for size, k, s, p, d in zip(x.type.sizes[-n:], kernel, stride, padding, dilation):
        extra = 0
        room = size + 2 * p - (k - 1) * d - 1
        if ceil_mode and s > 1:
            if not isinstance(room, int):
                raise c.no("ceil_mode needs a known length", "pad the input instead")
            extra = -(-room // s) * s - room
            if (floordiv(room, s) + (extra > 0)) * s >= size + p:  # a window may not start in the padding
                extra = 0
        pads.append((p, p + extra))
    return tuple(pads)


def _batched(c: Context, x: Value, n: int, build) -> Value:
    if x.type.rank == n + 2:
        return build(x)
    y = build(c.unsqueezed(x, 0))
    return c.reshape(y, y.type.sizes[1:])

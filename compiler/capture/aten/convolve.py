"""Convolutions, plain and transposed, in one and two dimensions; upsampling."""

from __future__ import annotations

from ....ir.expr import same
from ....ir.graph import Value
from ..table import Context, aten, many


@aten("conv1d", "conv2d", "conv1d.padding", "conv2d.padding")
def _(c, x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    return convolution(c, x, w, b, stride, padding, dilation, groups)


@aten("convolution", "_convolution")
def _(c, x, w, b, stride, padding, dilation, transposed, output_padding, groups, *_):
    if transposed:
        return transposed_convolution(c, x, w, b, stride, padding, output_padding, groups, dilation)
    return convolution(c, x, w, b, stride, padding, dilation, groups)


@aten("conv_transpose1d", "conv_transpose2d.input")
def _(c, x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return transposed_convolution(c, x, w, b, stride, padding, output_padding, groups, dilation)


def convolution(c: Context, x: Value, w: Value, b, stride, padding, dilation, groups) -> Value:
    """`torch.nn.functional.conv1d` and `conv2d`; without a batch dimension too."""
    n = _dimensions(c, w)
    dilation = many(dilation, n)
    if isinstance(padding, str):
        room = [(k - 1) * d if padding == "same" else 0 for k, d in zip(w.type.sizes[2:], dilation)]
        pad = tuple((r // 2, r - r // 2) for r in room)
    else:
        pad = tuple((p, p) for p in many(padding, n))
    return _batched(
        c, x, n, lambda x: c.b.conv(x, w, b, stride=many(stride, n), dilation=dilation, pad=pad, groups=groups)
    )


def transposed_convolution(c: Context, x: Value, w: Value, b, stride, padding, output_padding, groups, dilation):
    """`torch.nn.functional.conv_transpose1d` and `conv_transpose2d`."""
    n = _dimensions(c, w)
    pad = tuple((p, p) for p in many(padding, n))
    attrs = {"stride": many(stride, n), "dilation": many(dilation, n), "pad": pad}
    attrs |= {"output_pad": many(output_padding, n), "groups": groups}
    return _batched(c, x, n, lambda x: c.b.conv_transpose(x, w, b, **attrs))


def _dimensions(c: Context, w: Value) -> int:
    n = w.type.rank - 2
    if n not in (1, 2):
        raise c.no(f"convolves over {n} dimensions (one and two are supported)")
    return n


def _batched(c: Context, x: Value, n: int, build) -> Value:
    if x.type.rank == n + 2:
        return build(x)
    y = build(c.unsqueezed(x, 0))
    return c.reshape(y, y.type.sizes[1:])


@aten("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest1d.vec", "upsample_nearest2d.vec")
def _(c, x, *_):
    return _resized(c, x, False)


@aten("upsample_linear1d", "upsample_bilinear2d", "upsample_linear1d.vec", "upsample_bilinear2d.vec")
def _(c, x, output_size, align_corners=False, *_):
    if align_corners:
        raise c.no("align_corners is not supported", "interpolate with align_corners=False")
    return _resized(c, x, True)


def _resized(c: Context, x: Value, linear: bool) -> Value:
    for axis, size in enumerate(c.shape(x)):
        old = x.type.sizes[axis]
        scale = c.hint(size) // max(c.hint(old), 1)
        if scale < 1 or not same(old * scale, size):
            raise c.no(f"resizes {old} to {size}, which is not a whole multiple")
        if scale > 1:
            x = c.b.resize(x, axis=axis, scale=scale, linear=linear)
    return x

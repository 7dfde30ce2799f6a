"""Builders of random streaming graphs: ops on every frame alone, joins, and windows."""

from __future__ import annotations

from fractions import Fraction

from op_cases import Unfit, per_channel
from stream_cases import Streams, builder, time_axis


# -- every frame alone -----------------------------------------------------------------------------------------------
@builder("tanh", "sigmoid", "silu", "erf", "softplus", "sin", "cos", "neg", "abs", "relu", often=1.1)
def _(d, x, kind):
    return getattr(d.b, kind)(x)


@builder("gelu", "leaky_relu", "elu", often=1.1)
def _(d, x, kind):
    more = {"gelu": {"tanh": d.flag()}, "leaky_relu": {"slope": 0.3}, "elu": {"alpha": 0.7}}
    return getattr(d.b, kind)(x, **more[kind])


@builder("exp", "log", "sqrt", "rsqrt", "reciprocal", often=1.1)
def _(d, x, kind):
    """On something of unit size, and well above zero where that is wanted."""
    inner = d.b.tanh(x)
    return getattr(d.b, kind)(inner if kind == "exp" else d.b.add(inner, d.const(1.6)))


def off_the_grid(d: Streams, x):
    """x moved and stretched, so that zeros and whole numbers are nowhere near a jump."""
    return d.b.add(d.b.mul(x, d.const(1.7)), d.const(0.3137))


@builder("floor", "ceil", "round", "sign", often=1.3, jumps=True)
def _(d, x, kind):
    return getattr(d.b, kind)(off_the_grid(d, x))


def other(d: Streams, x):
    """A second operand: a number, one a channel, or another stream."""
    form = d.int(0, 3)
    if form == 0:
        return d.const(d.pick((0.7, -0.4, 1.3)))
    return d.vector(x) if form == 1 else d.mate(x)


@builder("add", "sub", "minimum", "maximum", often=1.5)
def _(d, x, kind):
    y = other(d, x)
    return getattr(d.b, kind)(x, y) if d.flag() else getattr(d.b, kind)(y, x)


@builder("mul", "div", often=1.2)
def _(d, x, kind):
    y = other(d, x)
    y = d.b.tanh(y) if kind == "mul" else d.b.add(d.b.sigmoid(y), d.const(0.6))
    return getattr(d.b, kind)(x, y)


@builder("pow", often=1.1)
def _(d, x):
    y = d.mate(x) if d.flag() else d.vector(x)
    return d.b.pow(d.b.add(d.b.sigmoid(x), d.const(0.4)), d.b.tanh(y))


@builder("mod", "floor_div", often=1.3, jumps=True)
def _(d, x, kind):
    return getattr(d.b, kind)(off_the_grid(d, x), d.const(d.pick((0.9, -1.3, 2.1))))


@builder("equal", "less", "less_equal", often=1.0, jumps=True)
def _(d, x, kind):
    """What a comparison selects."""
    level = lambda v: d.b.round(off_the_grid(d, v)) if kind == "equal" else v
    y = d.mate(x)
    chosen = getattr(d.b, kind)(level(x), level(d.b.add(y, d.const(0.0217))))
    return d.b.where(chosen, x, d.pick((y, d.const(0.2), d.b.neg(x))))


@builder("logical_and", "logical_or", "logical_not", often=1.2, jumps=True)
def _(d, x, kind):
    a, b = d.b.less(x, d.const(0.217)), d.b.less(d.const(-0.391), d.mate(x))
    both = d.b.logical_not(a) if kind == "logical_not" else getattr(d.b, kind)(a, b)
    return d.b.where(both, x, d.b.tanh(x)) if d.flag() else d.b.mul(x, d.b.cast(both, dtype=d.dt))


@builder("then")
def _(d, x):
    return d.b.add(x, d.mate(x), then="relu")


# -- channels --------------------------------------------------------------------------------------------------------
@builder("linear")
def _(d, x):
    return d.linear(x, d.int(2, 4))


@builder("dynamic row", jumps=True)
def _(d, x):
    x, units = d.last(x), d.int(2, 4)
    w = per_channel(d, (units, d.channels(x)), 0) if d.flag() else d.weights(units, d.channels(x), dtype=d.dt)
    return d.b.linear(x, w, d.weight([units], d.dt), dynamic="row")


@builder("matmul")
def _(d, x):
    return d.b.matmul(d.last(x), d.weight([d.channels(x), d.int(2, 4)], d.dt, scale=0.6))


@builder("layer_norm", "rms_norm", often=1.1)
def _(d, x, kind):
    x = d.last(x) if d.channels(x) > 1 else d.linear(x, 3)
    w, b = d.vector(x, "positive"), d.maybe(lambda: d.weight(x.type.sizes[-1:], d.dt))
    w = d.b.reshape(w, shape=x.type.sizes[-1:]) if w.type.rank > 1 else w
    return d.b.layer_norm(x, w, b, eps=1e-3) if kind == "layer_norm" else d.b.rms_norm(x, w, eps=1e-2)


@builder("batch_norm")
def _(d, x):
    x = d.first(x) if d.flag() else d.last(x)
    axis = 3 - time_axis(x)
    c = x.type.sizes[axis]
    gamma, beta, mean, var = (d.weight([c], d.dt, how) for how in ("positive", "normal", "normal", "positive"))
    return d.b.batch_norm(x, gamma, beta, mean, var, axis=axis, eps=1e-3)


@builder("softmax", "log_softmax")
def _(d, x, kind):
    x = d.linear(x, 3)
    x = d.first(x) if d.flag() else x
    return getattr(d.b, kind)(x, axis=3 - time_axis(x))


@builder("mean", "sum", "max", "min")
def _(d, x, kind):
    x = x if x.type.rank == 3 else d.linear(x, 3)
    return getattr(d.b, kind)(x, axes=(3 - time_axis(x),), keepdims=d.flag())


@builder("expand", often=1.2)
def _(d, x):
    y = d.b.reshape(d.flat(x), shape=(d.batch, d.frames(x), 1))
    return d.b.expand(y, shape=(d.batch, d.frames(x), d.int(2, 3)))


@builder("flip channels", "take channels", "some channels")
def _(d, x, kind):
    x = x if d.channels(x) > 1 else d.linear(x, 4)
    axis = 3 - time_axis(x)
    c = x.type.sizes[axis]
    if kind == "flip channels":
        return d.b.flip(x, axis=axis)
    if kind == "some channels":
        return d.b.slice(x, axis=axis, start=d.int(0, 1), stop=c, step=d.int(1, 2))
    return d.b.gather(x, d.b.weight("index", d.rng.integers(0, c, 3)), axis=axis)


@builder("across channels", often=1.2)
def _(d, x):
    """What usually goes along time, along the channels."""
    x = x if d.channels(x) > 1 else d.linear(x, 3)
    axis, form = 3 - time_axis(x), d.pick(("cumsum", "cummax", "resize", "pad", "concat"))
    if form in ("cumsum", "cummax"):
        return d.b.tanh(getattr(d.b, form)(x, axis=axis))
    if form == "resize":
        return d.b.resize(x, axis=axis, scale=2, linear=d.flag())
    if form == "pad":
        pads = tuple((1, d.int(0, 1)) if i == axis else (0, 0) for i in range(3))
        return d.b.pad(x, pads=pads, mode=d.pick(("constant", "edge", "reflect")))
    return d.b.concat(x, x, axis=axis)


@builder("heads")
def _(d, x):
    """Channels as heads, softmax within each, and back."""
    n, t = d.batch, d.frames(x)
    y = d.b.reshape(d.linear(x, 4), shape=(n, t, 2, 2))
    y = d.b.softmax(d.b.transpose(y, perm=(0, 2, 1, 3)), axis=3)
    return d.b.reshape(d.b.transpose(y, perm=(0, 2, 1, 3)), shape=(n, t, 4))


@builder("quantize", often=1.2, jumps=True)
def _(d, x):
    q = d.b.quantize(off_the_grid(d, x), scale=0.0625, zero_point=d.int(-5, 5))
    return d.b.dequantize(q, dtype=d.dt)


# -- joins -----------------------------------------------------------------------------------------------------------
@builder("concat channels", often=1.5)
def _(d, x):
    x = x if x.type.rank == 3 else d.last(x)
    parts = [x, d.mate(x)]
    d.random.shuffle(parts)
    return d.b.concat(*parts, axis=3 - time_axis(x))


@builder("where", often=1.2, jumps=True)
def _(d, x):
    return d.b.where(d.b.less(d.mate(x), d.const(0.137)), x, d.mate(x))


@builder("residual", often=3.0)
def _(d, x):
    """A window as long as its input, beside the input."""
    y = d.b.tanh(d.shifted(x)) if d.flag() else d.shifted(x)
    return d.b.add(x, d.like(y, x))


@builder("valid residual", often=2.0)
def _(d, x):
    """A window without pads, beside its input cropped as much."""
    x, reach = d.first(x), d.int(2, 4)
    y = d.b.conv(x, d.weights(x.type.sizes[1], x.type.sizes[1], reach, dtype=d.dt), None)
    cut = d.int(0, reach - 1)
    n = d.frames(x)
    return d.b.add(y, d.b.slice(x, axis=2, start=cut, stop=n - (reach - 1 - cut)))


@builder("unet", often=3.5)
def _(d, x):
    """Down, something, up again, and the skip, cropped to the shorter of the two."""
    x, s = d.first(x), d.int(2, 3)
    d.scaled(x, Fraction(1, s))
    c = x.type.sizes[1]
    k = s + d.int(0, 2)
    pad = ((d.int(0, k - 1), d.int(0, k - 1)),)
    form = d.int(0, 2)
    if form == 0:
        y = d.b.slice(d.b.tanh(x), axis=2, start=0, stop=d.frames(x), step=s)
    elif form == 1:
        y = d.b.avg_pool(x, kernel=(k,), stride=(s,), pad=pad)
    else:
        y = d.b.conv(x, d.weights(c, c, k, dtype=d.dt), d.weight([c], d.dt, scale=0.3), stride=(s,), pad=pad)
    y = d.shifted(d.b.tanh(y)) if d.flag() else d.b.relu(y)
    if d.flag():
        y = d.b.resize(y, axis=2, scale=s, linear=d.flag(0.3))
    else:
        y = d.b.conv_transpose(y, d.weights(c, c, s + d.int(0, 1), dtype=d.dt), None, stride=(s,))
    x, y = d.common(x, y)
    return d.b.add(x, y) if d.flag() else d.b.concat(x, y, axis=1)


# -- windows ---------------------------------------------------------------------------------------------------------
def pads(d: Streams, reach: int) -> tuple[int, int]:
    """Pads of a window of `reach` frames: none, as long as the input, causal, any, or more than the window."""
    form = d.pick(("none", "same", "causal", "right", "any", "any", "over"))
    d.feature(f"pads {form}")
    return {
        "none": lambda: (0, 0),
        "same": lambda: ((reach - 1) // 2, reach // 2),
        "causal": lambda: (reach - 1, 0),
        "right": lambda: (0, reach - 1),
        "any": lambda: (d.int(0, reach - 1), d.int(0, reach - 1)),
        "over": lambda: (reach + d.int(0, 2), d.int(0, reach + 1)),
    }[form]()


@builder("conv", often=4.0)
def _(d, x):
    last = d.flag(0.3)
    x = d.last(x) if last else d.first(x)
    c, k, s, dil = d.channels(x), d.int(1, 5), d.pick((1, 1, 2, 3)), d.pick((1, 1, 2))
    d.scaled(x, Fraction(1, s))
    groups = d.pick([g for g in range(1, c + 1) if c % g == 0])
    out = groups * d.int(1, 2)
    w = d.weights(out, c // groups, k, dtype=d.dt)
    attrs = dict(stride=(s,), dilation=(dil,), groups=groups, channel_last=last, pad=(pads(d, (k - 1) * dil + 1),))
    for name, there in [("conv stride", s > 1), ("conv dilation", dil > 1), ("conv channel_last", last)]:
        if there:
            d.feature(name)
    return d.b.conv(x, w, d.maybe(lambda: d.weight([out], d.dt, scale=0.3)), **attrs)


@builder("conv 2-D", often=2.5)
def _(d, x):
    """Frames and channels as an image, time at either axis."""
    n, c = d.batch, d.channels(x)
    across, last = d.flag(), d.flag(0.3)  # time is the second of the two axes
    y = d.first(x) if across else d.last(x)
    y = d.b.reshape(y, shape=(*y.type.sizes, 1) if last else (n, 1, *y.type.sizes[1:]))
    k, s, dil = d.int(1, 4), d.pick((1, 1, 2)), d.pick((1, 1, 2))
    d.scaled(x, Fraction(1, s))
    kf = d.int(1, min(2, c))
    order = (lambda a, b: (b, a)) if across else (lambda a, b: (a, b))
    out = d.int(1, 2)
    kernel, pad = order(k, kf), order(pads(d, (k - 1) * dil + 1), (0, kf - 1))
    form = d.pick(("conv", "conv", "max_pool", "avg_pool"))
    if form != "conv":  # no window of padding alone
        pad = order((d.int(0, k - 1), d.int(0, k - 1)) if dil == 1 else (0, 0), (0, kf - 1))
    attrs = dict(stride=order(s, 1), pad=pad, channel_last=last)
    d.feature(f"{form} 2-D")
    if form == "avg_pool":
        y = d.b.avg_pool(y, kernel=kernel, count_pad=d.flag(), **attrs)
    elif form == "max_pool":
        y = d.b.max_pool(y, kernel=kernel, dilation=order(dil, 1), **attrs)
    else:
        w, b = d.weights(out, 1, *kernel, dtype=d.dt), d.weight([out], d.dt, scale=0.3)
        y = d.b.conv(y, w, b, dilation=order(dil, 1), **attrs)
    image = y if not last else d.b.transpose(y, perm=(0, 3, 1, 2))  # [N, O, ...]
    frames = d.b.transpose(image, perm=(0, 3, 1, 2) if across else (0, 2, 1, 3))  # [N, T, ...]
    a, b = frames.type.sizes[2:]
    return d.b.reshape(frames, shape=(n, frames.type.sizes[1], a * b))


@builder("conv_transpose", often=3.0)
def _(d, x):
    last = d.flag(0.3)
    x = d.last(x) if last else d.first(x)
    c, k, s, dil = d.channels(x), d.int(1, 5), d.pick((1, 2, 2, 3)), d.pick((1, 1, 1, 2))
    d.scaled(x, s)
    groups, per = d.pick([g for g in range(1, c + 1) if c % g == 0]), d.int(1, 2)
    reach = (k - 1) * dil + 1
    crop = (d.int(0, reach - 1), d.int(0, reach - 1)) if d.flag() else (0, 0)
    d.feature("conv_transpose K<s" if k < s else "conv_transpose K>s" if k > s else "conv_transpose K=s")
    w = d.weights(c, per, k, dtype=d.dt, fan=c * k)
    attrs = dict(stride=(s,), dilation=(dil,), pad=(crop,), groups=groups, channel_last=last)
    more = (d.int(0, max(s, dil) - 1),)
    return d.b.conv_transpose(x, w, d.maybe(lambda: d.weight([groups * per], d.dt)), output_pad=more, **attrs)


@builder("max_pool", "avg_pool", often=2.0)
def _(d, x, kind):
    last = d.flag(0.3)
    x = d.last(x) if last else d.first(x)
    k, s, dil = d.int(1, 4), d.pick((1, 1, 2, 3)), d.pick((1, 1, 2)) if kind == "max_pool" else 1
    d.scaled(x, Fraction(1, s))
    reach = (k - 1) * dil + 1
    d.least_sizes.append(d.frames(x) - reach + 1)  # spread taps would fall beside a shorter input
    pad = (d.int(0, reach - 1), d.int(0, reach - 1)) if d.flag(0.7) else (0, 0)
    attrs = dict(kernel=(k,), stride=(s,), pad=(pad,), channel_last=last)
    if kind == "max_pool":
        return d.b.max_pool(x, dilation=(dil,), **attrs)
    count = d.flag()
    d.feature(f"avg_pool count_pad={count}")
    return d.b.avg_pool(x, count_pad=count, **attrs)


@builder("integer conv", jumps=True, often=1.2)
def _(d, x):
    """int8 in and out, padded with the zero point."""
    x, zero = d.first(x), d.int(-9, 9)
    q = d.b.quantize(off_the_grid(d, x), scale=0.05, zero_point=zero)
    k, c = d.int(2, 4), d.channels(x)
    w, bias = per_channel(d, (3, c, k), 0), d.weight([3], d.dt, scale=0.3)
    out = {"out": ("i8", 0.0471, d.int(-9, 9))}
    return d.b.dequantize(d.b.conv(q, w, bias, pad=(pads(d, k),), **out), dtype=d.dt)


@builder("integer pad", jumps=True, often=1.2)
def _(d, x):
    """A stored number for padding, in front of a window over the stored numbers."""
    x = d.first(x)
    q = d.b.quantize(off_the_grid(d, x), scale=0.05, zero_point=3)
    q = d.b.pad(q, pads=((0, 0), (0, 0), (d.int(0, 2), d.int(0, 2))), value=3.0)
    return d.b.dequantize(q, dtype=d.dt)


@builder("frames as batch", often=4.0)
def _(d, x):
    """Layers over the frames of a single stream, each frame a row of their batch."""
    if d.batch != 1:
        raise Unfit
    n, rows = d.frames(x), d.linear(x, 4)
    y = d.b.reshape(rows, shape=(n, 2, 2))
    form = d.int(0, 4)
    if form == 4:
        h = d.b.expand(d.weight([1, 2], d.dt, scale=d.pick((0.0, 1.0))), shape=(n, 2))
        y = d.b.gru(y, h, d.weights(6, 2, dtype=d.dt), d.weights(6, 2, dtype=d.dt), None, None, reverse=d.flag())[0]
    if form == 1:
        y = d.b.conv(y, d.weights(2, 2, 2, dtype=d.dt), None, pad=((0, 1),))
    elif form == 2:
        y = d.b.max_pool(y, kernel=(2,), stride=(1,), pad=((1, 0),), dilation=(1,))
    y = d.b.group_norm(
        y, d.weight([2], d.dt, "positive"), d.maybe(lambda: d.weight([2], d.dt)), groups=d.int(1, 2), eps=1e-2
    )
    return d.b.reshape(y, shape=(1, n, 4))

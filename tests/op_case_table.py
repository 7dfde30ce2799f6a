"""The cases of ops that compute: how to draw attributes and other operands, given the first operand."""

from __future__ import annotations

import math

from op_cases import Drawing, Unfit, case
from speechc.ir.graph import Value
from speechc.ir.types import Dim


# -- pointwise -----------------------------------------------------------------------------------------------------
@case("tanh", "sigmoid", "silu", "erf", "softplus", "sin", "cos", ranks=(0, 4))
def _(d, x, kind):
    return getattr(d.b, kind)(x)


@case("gelu", ranks=(0, 4))
def _(d, x):
    return d.b.gelu(x, tanh=d.flag())


@case("neg", "abs", "relu", ranks=(0, 4), dtypes="number")
def _(d, x, kind):
    return getattr(d.b, kind)(x)


@case("sign", ranks=(0, 4), dtypes="number", values="away", chain=False)
def _(d, x):
    return d.b.sign(x)


@case("exp", ranks=(0, 4), chain=False)
def _(d, x):
    return d.b.exp(x)


@case("log", "sqrt", "rsqrt", "reciprocal", ranks=(0, 4), values="positive", chain=False)
def _(d, x, kind):
    return getattr(d.b, kind)(x)


@case("floor", "ceil", "round", ranks=(0, 4), values="away", chain=False)
def _(d, x, kind):
    return getattr(d.b, kind)(x)


@case("leaky_relu", ranks=(0, 4))
def _(d, x):
    return d.b.leaky_relu(x, slope=d.pick((0.01, 0.3)))


@case("elu", ranks=(0, 4))
def _(d, x):
    return d.b.elu(x, alpha=d.pick((1.0, 0.7)))


def bounded(d: Drawing, x: Value) -> Value:
    """In a random graph, factors stay below one, so that chains of products stay finite."""
    return d.b.sigmoid(x) if d.pool is not None and x.kind in ("result", "input") else x


@case("add", "sub", "minimum", "maximum", ranks=(0, 4), dtypes="number")
def _(d, x, kind):
    a, b = (x, d.mate(x)) if d.flag() else (d.mate(x), x)
    return getattr(d.b, kind)(a, b)


@case("mul", ranks=(0, 4), dtypes="number")
def _(d, x):
    return d.b.mul(x, bounded(d, d.mate(x)))


@case("div", ranks=(0, 4), chain=False)
def _(d, x):
    return d.b.div(x, d.mate(x, "positive"))


@case("pow", ranks=(0, 4), dtypes="number", values="positive", chain=False)
def _(d, x):
    return d.b.pow(x, d.mate(x, "small"))


@case("mod", "floor_div", ranks=(0, 4), dtypes="number", values="eighths", chain=False)
def _(d, x, kind):
    if x.type.is_float:
        return getattr(d.b, kind)(x, d.mate(x, "halves"))
    y = d.mate(x, "positive")
    return getattr(d.b, kind)(x, d.b.neg(y) if d.flag() and y.kind != "const" else y)


@case("equal", "less", "less_equal", ranks=(0, 4), dtypes="number", values="distinct", chain=False)
def _(d, x, kind):
    return getattr(d.b, kind)(x, d.mate(x, "distinct"))


@case("logical_and", "logical_or", ranks=(0, 4), dtypes="any", chain=False, source=False)
def _(d, x, kind):
    x = d.input([d.dim() for _ in range(d.int(0, 3))], "bool")
    return getattr(d.b, kind)(x, d.mate(x))


@case("logical_not", chain=False, source=False)
def _(d, x):
    return d.b.logical_not(d.input([d.dim() for _ in range(d.int(0, 3))], "bool"))


@case("where", ranks=(0, 4), dtypes="any")
def _(d, x):
    shape = [Dim(1) if d.flag() else s for s in x.type.shape]
    condition = d.operand(shape, "bool")
    return d.b.where(condition, x, d.mate(x)) if d.flag() else d.b.where(condition, d.mate(x), x)


@case("cast", ranks=(0, 4), dtypes="any", values="away", chain=False)
def _(d, x):
    return d.b.cast(x, dtype=d.pick((*d.floats, "i32", "i64", "bool")))


# -- norm ----------------------------------------------------------------------------------------------------------
@case("softmax", "log_softmax")
def _(d, x, kind):
    return getattr(d.b, kind)(x, axis=d.axis(x))


@case("layer_norm", ranks=(1, 4), static=(-1,), least=2)
def _(d, x):
    axis = d.axis(x)
    tail = x.type.sizes[axis:]
    if not all(isinstance(s, int) for s in tail):
        axis, tail = x.type.rank - 1, x.type.sizes[-1:]
    w, b = (d.maybe(lambda: d.weight(tail, x.type.dtype, "positive")) for _ in range(2))
    return d.b.layer_norm(x, w, b, axis=axis - d.pick((0, x.type.rank)), eps=d.pick((1e-5, 1e-3)))


@case("rms_norm", static=(-1,))
def _(d, x):
    w = d.maybe(lambda: d.weight(x.type.sizes[-1:], x.type.dtype, "positive"))
    return d.b.rms_norm(x, w, eps=d.pick((1e-6, 1e-3)))


@case("batch_norm", ranks=(2, 4), static=(1,))
def _(d, x):
    axis = d.pick([i for i, s in enumerate(x.type.sizes) if isinstance(s, int)])
    gamma, beta, mean, var = (
        d.weight([x.type.sizes[axis]], x.type.dtype, how) for how in ("positive", "normal", "normal", "positive")
    )
    return d.b.batch_norm(x, gamma, beta, mean, var, axis=axis, eps=1e-3)


@case("group_norm", ranks=(3, 4), static=(1,), least=2)
def _(d, x):
    c = x.type.sizes[1]
    w, b = (d.maybe(lambda: d.weight([c], x.type.dtype, "positive")) for _ in range(2))
    return d.b.group_norm(x, w, b, groups=d.pick([g for g in range(1, c + 1) if c % g == 0]), eps=1e-3)


@case("attention", ranks=(3, 4), static=(-1, -3))
def _(d, x):
    *batch, heads, tq, size = x.type.shape
    groups = Dim(d.pick([g for g in range(1, heads.size + 1) if heads.size % g == 0]))
    tk = tq if d.flag() else d.dim()
    k = d.operand([*batch, groups, tk, size], x.type.dtype)
    v = d.operand([*batch, groups, tk, Dim(d.int(1, 4))], x.type.dtype)
    mask = None
    if d.flag():
        shape = [Dim(1) if d.flag() else s for s in (*batch, heads)] + [Dim(1) if d.flag() else tq, tk]
        mask = d.operand(shape[d.int(0, len(shape) - 2) :], d.pick(("bool", x.type.dtype)))
    return d.b.attention(x, k, v, mask, scale=d.pick((0.5, 1 / math.sqrt(size.size))), causal=d.flag())


# -- linear --------------------------------------------------------------------------------------------------------
@case("matmul", ranks=(2, 4), static=(-1,))
def _(d, x):
    *batch, _, inner = x.type.shape
    batch = [Dim(1) if d.flag() else s for s in batch]
    shape = [*batch[d.int(0, len(batch)) :], inner, Dim(d.int(1, 4))]
    return d.b.matmul(x, bounded(d, d.operand(shape, x.type.dtype)))


@case("linear", static=(-1,))
def _(d, x):
    out = d.int(1, 5)
    w = d.weights(out, x.type.sizes[-1], dtype=x.type.dtype)
    return d.b.linear(x, w, d.maybe(lambda: d.weight([out], x.type.dtype)))


def space_axes(x: Value, last: bool) -> range:
    return range(1, x.type.rank - 1) if last else range(2, x.type.rank)


def window(d: Drawing, x: Value, last: bool, dilate: bool = True, most_pad: int = 3):
    """Kernel, stride, dilation and pads that fit, for every spatial dimension."""
    kernel, stride, dilation, pad = [], [], [], []
    for axis in space_axes(x, last):
        n, k = d.n(x.type.sizes[axis]), d.int(1, 4)
        dil = d.int(1, 2) if dilate else 1
        pads = (d.int(0, min(k - 1, most_pad)), d.int(0, min(k - 1, most_pad)))
        if n + sum(pads) < (k - 1) * dil + 1:
            k, dil, pads = 1, 1, (0, 0)
        kernel, stride = [*kernel, k], [*stride, d.int(1, 3)]
        dilation, pad = [*dilation, dil], [*pad, pads]
    return kernel, stride, dilation, pad


def channels(x: Value, last: bool) -> int:
    c = x.type.sizes[-1 if last else 1]
    if not isinstance(c, int):
        raise Unfit
    return c


@case("conv", ranks=(3, 4), static=(1, -1))
def _(d, x):
    last = d.flag()
    c = channels(x, last)
    kernel, stride, dilation, pad = window(d, x, last)
    groups = d.pick([g for g in range(1, c + 1) if c % g == 0])
    out = groups * d.int(1, 3)
    w = d.weights(out, c // groups, *kernel, dtype=x.type.dtype)
    b = d.maybe(lambda: d.weight([out], x.type.dtype))
    return d.b.conv(x, w, b, stride=stride, dilation=dilation, pad=pad, groups=groups, channel_last=last)


@case("conv_transpose", ranks=(3, 4), static=(1, -1), least=2)
def _(d, x):
    last = d.flag()
    c = channels(x, last)
    groups = d.pick([g for g in range(1, c + 1) if c % g == 0])
    per = d.int(1, 3)
    kernel, stride, dilation, pad, more = [], [], [], [], []
    for _ in space_axes(x, last):
        k, s, dil = d.int(1, 4), d.int(1, 3), d.int(1, 2)
        kernel, stride, dilation = [*kernel, k], [*stride, s], [*dilation, dil]
        pad.append((d.int(0, (k - 1) * dil // 2), d.int(0, (k - 1) * dil // 2)))
        more.append(d.int(0, max(s, dil) - 1))  # PyTorch wants less than the stride or the dilation
    w = d.weights(c, per, *kernel, dtype=x.type.dtype, fan=c * math.prod(kernel))
    b = d.maybe(lambda: d.weight([groups * per], x.type.dtype))
    attrs = dict(stride=stride, dilation=dilation, pad=pad, output_pad=more, groups=groups, channel_last=last)
    return d.b.conv_transpose(x, w, b, **attrs)


# -- reduce --------------------------------------------------------------------------------------------------------
@case("sum", "max", "min", dtypes="number")
def _(d, x, kind):
    axes = [i for i in range(x.type.rank) if d.flag()] or [d.axis(x)]
    return getattr(d.b, kind)(x, axes=axes, keepdims=d.flag())


@case("mean")
def _(d, x):
    axes = [i for i in range(x.type.rank) if d.flag()] or [d.axis(x)]
    return d.b.mean(x, axes=axes, keepdims=d.flag())


@case("argmax", values="distinct", dtypes="number", chain=False)
def _(d, x):
    return d.b.argmax(x, axis=d.axis(x), keepdims=d.flag())


@case("cumsum", "cummax", dtypes="number")
def _(d, x, kind):
    return getattr(d.b, kind)(x, axis=d.axis(x))


@case("max_pool", ranks=(3, 4))
def _(d, x):
    last = d.flag()
    kernel, stride, dilation, pad = window(d, x, last)
    # PyTorch pads by at most half a window, and a window of padding alone has no largest element.
    # Taps that are spread out can all fall on padding.
    pad = [(min(p, k // 2), min(q, k // 2)) if dil == 1 else (0, 0) for (p, q), k, dil in zip(pad, kernel, dilation)]
    kernel = [k if d.n(x.type.sizes[a]) + p + q > (k - 1) * dil else 1
              for a, k, dil, (p, q) in zip(space_axes(x, last), kernel, dilation, pad)]  # fmt: skip
    pad = [pq if k > 1 else (0, 0) for pq, k in zip(pad, kernel)]
    return d.b.max_pool(x, kernel=kernel, stride=stride, pad=pad, dilation=dilation, channel_last=last)


@case("avg_pool", ranks=(3, 4))
def _(d, x):
    last = d.flag()
    kernel, stride, _, pad = window(d, x, last, dilate=False)
    pad = [(min(p, k // 2), min(q, k // 2)) for (p, q), k in zip(pad, kernel)]
    kernel = [k if d.n(x.type.sizes[a]) + p + q >= k else 1 for a, k, (p, q) in zip(space_axes(x, last), kernel, pad)]
    pad = [pq if k > 1 else (0, 0) for pq, k in zip(pad, kernel)]
    return d.b.avg_pool(x, kernel=kernel, stride=stride, pad=pad, count_pad=d.flag(), channel_last=last)

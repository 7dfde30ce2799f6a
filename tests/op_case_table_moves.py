"""The cases of ops that move elements, of recurrent layers, state and quantization."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from op_case_table import window
from op_cases import CASES, FORMS, Drawing, Unfit, case, per_channel
from speechc.ir.expr import Expr
from speechc.ir.graph import Value
from speechc.ir.types import Dim


# -- shape ---------------------------------------------------------------------------------------------------------
def product(sizes):
    total = 1
    for s in sizes:
        total = total * s
    return total


@case("reshape", dtypes="any")
def _(d, x):
    sizes = list(x.type.sizes)
    form = d.int(0, 3)
    at = d.axis(x)
    n = sizes[at]
    if form == 0 and at + 1 < len(sizes):  # merge two
        shape = [*sizes[:at], n * sizes[at + 1], *sizes[at + 2 :]]
    elif form == 1 and isinstance(n, int):  # split one
        by = d.pick([k for k in range(1, n + 1) if n % k == 0])
        shape = [*sizes[:at], by, n // by, *sizes[at + 1 :]]
    elif form == 2:
        shape = [*sizes[:at], 1, *sizes[at:]]
    else:
        shape = [product(sizes)]
    if len(shape) > 5:
        raise Unfit
    return d.b.reshape(x, shape=shape)


@case("transpose", ranks=(1, 5), dtypes="any")
def _(d, x):
    return d.b.transpose(x, perm=d.pick(permutations(range(x.type.rank))))


@case("expand", ranks=(0, 3), dtypes="any")
def _(d, x):
    # One frame of a stream is not a number that holds for all of them: time does not stretch.
    shape = [d.dim(1, 3) if s.size == 1 and s.time is None else s.size for s in x.type.shape]
    front = [Dim(d.int(1, 2)) for _ in range(d.int(0, 1))]
    shape = [s.size if isinstance(s, Dim) else s for s in (*front, *shape)]
    if any(isinstance(s, Expr) and s not in x.type.sizes for s in shape):
        for s in shape:  # the new symbol is bound by an input of its own
            if isinstance(s, Expr) and s not in x.type.sizes:
                d.input([s])
    return d.b.expand(x, shape=shape)


@case("slice", dtypes="any")
def _(d, x):
    axis = d.axis(x)
    size, step = x.type.sizes[axis], d.int(1, 3)
    start = d.int(0, d.n(size) - 1)
    stop = size - d.int(0, d.n(size) - start - 1) if d.flag() else d.int(start + 1, d.n(size))
    if d.int(0, 3) == 0 and isinstance(stop, int):
        start, stop = size - (d.n(size) - start), size - (d.n(size) - stop)
    return d.b.slice(x, axis=axis, start=start, stop=stop, step=step)


@case("concat", dtypes="any")
def _(d, x):
    axis = d.axis(x)
    parts = [x]
    for _ in range(d.int(0, 2)):
        other = list(x.type.shape)
        if d.flag():
            other[axis] = Dim(d.int(1, 3))
        parts.append(d.operand(other, x.type.dtype) if d.pool is None or d.flag() else x)
    return d.b.concat(*parts, axis=axis)


@case("pad", dtypes="number")
def _(d, x):
    mode = d.pick(("constant", "edge", "reflect"))
    pads = []
    for s in x.type.sizes:
        most = d.n(s) - 1 if mode == "reflect" else 3
        pads.append((d.int(0, most), d.int(0, most)) if d.flag() else (0, 0))
    value = d.pick((0.0, 1.0, -2.0)) if mode == "constant" else 0.0
    return d.b.pad(x, pads=pads, mode=mode, value=value)


@case("gather", ranks=(1, 3), dtypes="any")
def _(d, x):
    axis = d.axis(x)
    shape = [Dim(d.int(1, 3)) for _ in range(d.int(0, 2))]
    dtype = d.pick(("i32", "i64"))
    if isinstance(x.type.sizes[axis], int) and d.flag():
        values = d.rng.integers(0, x.type.sizes[axis], [s.size for s in shape])
        index = d.b.weight("index", np.asarray(values, f"int{dtype[1:]}"))
    else:
        index = d.operand(shape, dtype, ("index", x.type.sizes[axis]))
    return d.b.gather(x, index, axis=axis)


@case("gather_elements", ranks=(1, 4), dtypes="any")
def _(d, x):
    axis = d.axis(x)
    shape = list(x.type.shape)
    shape[axis] = Dim(d.int(1, 4))
    index = d.operand(shape, d.pick(("i32", "i64")), ("index", x.type.sizes[axis]))
    return d.b.gather_elements(x, index, axis=axis)


@case("flip", dtypes="any")
def _(d, x):
    return d.b.flip(x, axis=d.axis(x))


@case("iota", source=False)
def _(d, x):
    size = d.dim().size
    if isinstance(size, Expr):
        d.input([size])
        size = d.pick((size, size + 2, 2 * size - 1, (size + 1) // 2))
    return d.b.iota(size=size, dtype=d.pick(("i32", "i64", *d.floats)))


@case("size", source=False)
def _(d, x):
    size = d.dim().size
    if isinstance(size, Expr):
        d.input([size])
        size = d.pick((size, 3 * size - 2, size // 2 + 1, size * size))
    return d.b.size(of=size)


# -- signal --------------------------------------------------------------------------------------------------------
@case("frame", ranks=(1, 3), dtypes="any")
def _(d, x):
    return d.b.frame(x, size=d.int(1, d.n(x.type.sizes[-1])), hop=d.int(1, 4))


@case("overlap_add", ranks=(2, 4), static=(-1,))
def _(d, x):
    return d.b.overlap_add(x, hop=d.int(1, 4))


@case("resize", ranks=(1, 4))
def _(d, x):
    return d.b.resize(x, axis=d.axis(x), scale=d.int(1, 3), linear=d.flag())


# -- recurrent -----------------------------------------------------------------------------------------------------
def recurrent(d: Drawing, x: Value, gates: int, hidden: int, out: int):
    inputs, dtype = x.type.sizes[2], x.type.dtype
    w = d.weights(gates * hidden, inputs, dtype=dtype)
    r = d.weights(gates * hidden, out, dtype=dtype)
    return w, r, d.maybe(lambda: d.weight([gates * hidden], dtype))


@case("lstm", ranks=(3, 3), static=(0, 2))
def _(d, x):
    hidden, dtype = d.int(1, 4), x.type.dtype
    proj = d.maybe(lambda: d.weights(d.int(1, 3), hidden, dtype=dtype))
    out = hidden if proj is None else proj.type.sizes[0]
    w, r, b = recurrent(d, x, 4, hidden, out)
    h, c = d.operand([x.type.shape[0], out], dtype), d.operand([x.type.shape[0], hidden], dtype)
    return d.b.lstm(x, h, c, w, r, b, proj, reverse=d.flag())


@case("gru", ranks=(3, 3), static=(0, 2))
def _(d, x):
    hidden = d.int(1, 4)
    w, r, b = recurrent(d, x, 3, hidden, hidden)
    h = d.operand([x.type.shape[0], hidden], x.type.dtype)
    return d.b.gru(x, h, w, r, b, d.maybe(lambda: d.weight([3 * hidden], x.type.dtype)), reverse=d.flag())


@case("rnn", ranks=(3, 3), static=(0, 2))
def _(d, x):
    hidden = d.int(1, 4)
    w, r, b = recurrent(d, x, 1, hidden, hidden)
    h = d.operand([x.type.shape[0], hidden], x.type.dtype)
    return d.b.rnn(x, h, w, r, b, relu=d.flag(), reverse=d.flag())


# -- state and quantization ----------------------------------------------------------------------------------------
def state_of(d: Drawing):
    x = d.source(CASES["tanh"])
    if not x.type.static:
        x = d.b.mean(x, axes=[i for i, s in enumerate(x.type.sizes) if isinstance(s, Expr)])
    initial = d.pick((0.0, 1.5)) if d.flag() else d.weight(x.type.sizes, x.type.dtype).payload
    return x, d.graph.state("s", x.type, initial)


@case("read", source=False)
def _(d, x):
    _, state = state_of(d)
    return d.b.read(state)


@case("write", source=False)
def _(d, x):
    x, state = state_of(d)
    total = d.b.add(d.b.read(state), x)
    d.b.write(state, total)
    return total


@case("history", source=False)
def _(d, x):
    x = d.weight((d.int(1, 3), d.int(1, 4), d.int(1, 3)), d.float())
    axis, held = d.int(0, 2), d.int(1, 6)
    kept = x.type.with_(shape=[held if i == axis else s for i, s in enumerate(x.type.sizes)])
    initial = d.pick((0.0, 1.5)) if d.flag() else d.weight(kept.sizes, kept.dtype).payload
    return d.b.history(x, d.graph.state("s", kept, initial), axis=axis)


@case("retime", ranks=(1, 4))
def _(d, x):
    axis = d.int(0, x.type.rank - 1)
    return d.b.retime(x, axis=axis, to=Dim(x.type.sizes[axis]))


@case("quantize", ranks=(0, 4), values="away", chain=False)
def _(d, x):
    dtype = d.pick(("i8", "u8", "i16"))
    zero = {"i8": d.int(-3, 3), "u8": d.int(100, 140), "i16": 0}[dtype]
    return d.b.quantize(x, scale=1.0, zero_point=zero, dtype=dtype)


@case("dequantize", source=False)
def _(d, x):
    if d.flag():
        shape = tuple(d.int(1, 4) for _ in range(d.int(1, 3)))
        return d.b.dequantize(per_channel(d, shape, d.int(0, len(shape) - 1)), dtype=d.float())
    x = d.source(CASES["quantize"])
    return d.b.dequantize(d.b.quantize(x, scale=1.0, zero_point=d.int(-3, 3)), dtype=d.float())


@case("linear.dynamic.tensor", "linear.dynamic.row", table=FORMS, static=(-1,), chain=False)
def _(d, x, kind):
    out, inputs = d.int(1, 5), x.type.sizes[-1]
    b = d.maybe(lambda: d.weight([out], "f32"))
    return d.b.linear(x, per_channel(d, (out, inputs), 0), b, dynamic=kind.rpartition(".")[2])


@case("conv.dynamic.tensor", table=FORMS, ranks=(3, 4), static=(1,), chain=False)
def _(d, x):
    kernel, stride, dilation, pad = window(d, x, False)
    c = x.type.sizes[1]
    groups = d.pick((1, c))
    w = per_channel(d, (groups * d.int(1, 4), c // groups, *kernel), 0)
    b = d.maybe(lambda: d.weight(w.type.sizes[:1], "f32"))
    attrs = dict(stride=stride, dilation=dilation, pad=pad, groups=groups)
    return d.b.conv(x, w, b, **attrs, dynamic="tensor")


@case("linear.qdq", table=FORMS, static=(-1,), values="away", chain=False)
def _(d, x):
    out = d.int(1, 5)
    q = d.b.dequantize(d.b.quantize(x, scale=1.0, zero_point=d.int(-3, 3)))
    b = d.maybe(lambda: d.weight([out], "f32"))
    return d.b.linear(q, d.b.dequantize(per_channel(d, (out, x.type.sizes[-1]), 0)), b)


@case("conv.qdq", table=FORMS, ranks=(3, 4), static=(1,), values="away", chain=False)
def _(d, x):
    q = d.b.dequantize(d.b.quantize(x, scale=1.0))
    kernel, stride, dilation, pad = window(d, x, False)
    w = d.b.dequantize(per_channel(d, (d.int(1, 4), x.type.sizes[1], *kernel), 0))
    return d.b.conv(q, w, None, stride=stride, dilation=dilation, pad=pad)


@case("lstm.int8", "gru.int8", table=FORMS, ranks=(3, 3), static=(0, 2), chain=False)
def _(d, x, kind):
    hidden, gates = d.int(1, 4), 4 if kind == "lstm.int8" else 3
    proj = d.b.dequantize(per_channel(d, (d.int(1, 3), hidden), 0)) if gates == 4 and d.flag() else None
    out = hidden if proj is None else proj.type.sizes[0]
    w, r = (d.b.dequantize(per_channel(d, (gates * hidden, n), 0)) for n in (x.type.sizes[2], out))
    b = d.maybe(lambda: d.weight([gates * hidden], "f32"))
    h, c = (d.operand([x.type.shape[0], n], "f32") for n in (out, hidden))
    if gates == 4:
        return d.b.lstm(x, h, c, w, r, b, proj, reverse=d.flag())
    return d.b.gru(x, h, w, r, b, None, reverse=d.flag())


@case("then", table=FORMS, static=(-1,), chain=False)
def _(d, x):
    if d.flag():
        return d.b.add(x, d.mate(x), then="relu")
    w = d.weights(d.int(1, 5), x.type.sizes[-1], dtype=x.type.dtype)
    return d.b.linear(x, w, None, then="relu")

"""Builders of random streaming graphs: ops that move frames, recurrences, positions, attention and tokens."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from op_cases import per_channel
from speechc.ir.expr import ceildiv, floordiv
from stream_cases import Streams, builder, time_axis

TABLE = 400  # rows of a learned position table


# -- moving frames ---------------------------------------------------------------------------------------------------
def on_time(x, pair) -> tuple:
    """Pads of `pair` along time."""
    return tuple(pair if i == time_axis(x) else (0, 0) for i in range(x.type.rank))


def padded(d: Streams, x, most: int, *modes: str):
    mode, pair = d.pick(modes or ("constant", "reflect", "edge")), (d.int(0, most), d.int(0, most))
    d.feature(f"pad {mode}")
    if mode == "reflect":
        d.least_sizes.append(d.frames(x) - max(pair))
    value = d.pick((0.0, 0.0, 0.6, -1.2)) if mode == "constant" else 0.0
    return d.b.pad(x, pads=on_time(x, pair), mode=mode, value=value)


@builder("pad", often=3.0)
def _(d, x):
    return padded(d, x, 4)


@builder("pad before window", often=2.0)
def _(d, x):
    x = padded(d, d.first(x), 4)
    k, s = d.int(1, 4), d.int(1, 2)
    d.scaled(x, Fraction(1, s))
    if d.flag():
        return d.b.max_pool(x, kernel=(k,), stride=(s,), pad=((0, 0),), dilation=(1,))
    c = d.channels(x)
    return d.b.conv(x, d.weights(c, c, k, dtype=d.dt), None, stride=(s,))


@builder("slice", often=4.0)
def _(d, x):
    form, n, s = d.pick(("front", "back", "both", "every", "every from")), d.frames(x), d.int(2, 3)
    d.feature(f"slice {form}")
    start = d.int(1, 4) if form in ("front", "both", "every from") else 0
    stop = n - d.int(1, 3) if form in ("back", "both") else n
    step = s if "every" in form else 1
    d.scaled(x, Fraction(1, step))
    return d.b.slice(x, axis=time_axis(x), start=start, stop=stop, step=step)


@builder("frame", often=2.0)
def _(d, x):
    x = d.flat(x)
    size, hop = d.int(2, 5), d.int(1, 3)
    d.scaled(x, Fraction(1, hop))
    if d.flag(0.6):  # centred
        d.feature("frame centred")
        x = padded(d, x, size // 2)
    y = d.b.frame(x, size=size, hop=hop)
    return d.b.linear(y, d.weights(3, size, dtype=d.dt), None)


@builder("frame channels")
def _(d, x):
    x, size, hop = d.first(x), d.int(2, 4), d.int(1, 2)
    d.scaled(x, Fraction(1, hop))
    return d.b.mean(d.b.frame(x, size=size, hop=hop), axes=(3,))


@builder("overlap_add", often=2.0)
def _(d, x):
    hop, size = d.int(1, 3), d.int(1, 5)
    d.scaled(x, hop)
    y = d.b.overlap_add(d.linear(x, size), hop=hop)
    if d.flag():
        cut = d.int(0, size // 2)
        y = d.b.slice(y, axis=1, start=cut, stop=d.frames(y) - d.int(0, cut))
    return y


@builder("stack", often=2.0)
def _(d, x):
    x = d.last(x)
    k, c = d.int(2, 3), d.channels(x)
    d.scaled(x, Fraction(1, k))
    n = floordiv(d.frames(x), k)
    y = d.b.reshape(d.b.slice(x, axis=1, start=0, stop=n * k), shape=(d.batch, n, k * c))
    return y if d.flag() else d.linear(y, 3)


@builder("stack padded", often=1.2)
def _(d, x):
    """Frames stacked after padding to whole stacks, by as many as the length asks for."""
    x = d.last(x)
    k, c, n = d.int(2, 3), d.channels(x), d.frames(x)
    d.scaled(x, Fraction(1, k))
    whole = ceildiv(n, k)
    y = d.b.pad(x, pads=((0, 0), (0, whole * k - n), (0, 0)), value=d.pick((0.0, 0.6)))
    return d.linear(d.b.reshape(y, shape=(d.batch, whole, k * c)), 3)


@builder("unstack", often=1.5)
def _(d, x):
    k, c = d.int(2, 3), d.int(1, 2)
    d.scaled(x, k)
    y = d.linear(x, k * c)
    return d.b.reshape(y, shape=(d.batch, d.frames(x) * k, c))


@builder("resize nearest", "resize linear", often=1.2)
def _(d, x, kind):
    scale = d.int(2, 3)
    d.scaled(x, scale)
    return d.b.resize(x, axis=time_axis(x), scale=scale, linear=kind == "resize linear")


@builder("concat time", often=1.5)
def _(d, x):
    """Constant frames in front of or behind a stream."""
    axis, parts = time_axis(x), [x]
    for side in d.pick(("front", "back", "both")).replace("both", "front back").split():
        shape = list(x.type.sizes)
        shape[axis] = d.int(1, 3)
        part = d.repeated(shape[1:])
        parts = [part, *parts] if side == "front" else [*parts, part]
        d.feature(f"concat time {side}")
    return d.b.concat(*parts, axis=axis)


# -- recurrences -----------------------------------------------------------------------------------------------------
def carry(d: Streams, size: int):
    """Where a recurrence starts: zeros, or something else."""
    zero = d.flag()
    d.feature("carry zero" if zero else "carry not zero")
    return d.repeated([size], 0.0 if zero else 1.0)


@builder("lstm", "gru", "rnn", often=1.2)
def _(d, x, kind):
    x, hidden = d.last(x), d.int(2, 3)
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    proj = d.weights(2, hidden, dtype=d.dt) if kind == "lstm" and d.flag(0.3) else None
    out = hidden if proj is None else 2
    w = d.weights(gates * hidden, d.channels(x), dtype=d.dt)
    r = d.weights(gates * hidden, out, dtype=d.dt)
    b = d.maybe(lambda: d.weight([gates * hidden], d.dt))
    h = carry(d, out)
    if kind == "lstm":
        return d.b.lstm(x, h, carry(d, hidden), w, r, b, proj)[0]
    if kind == "gru":
        return d.b.gru(x, h, w, r, b, d.maybe(lambda: d.weight([3 * hidden], d.dt)))[0]
    return d.b.rnn(x, h, w, r, b)[0]


@builder("cumsum", "cummax", often=1.2)
def _(d, x, kind):
    y = getattr(d.b, kind)(x, axis=time_axis(x))
    return d.b.tanh(d.b.mul(y, d.const(0.3))) if kind == "cumsum" else y


@builder("running mean", often=1.2)
def _(d, x):
    x = d.last(x)
    count = d.b.add(positions(d, d.frames(x)), d.const(1.0))
    count = d.b.reshape(count, shape=(d.frames(x), 1))
    return d.b.div(d.b.cumsum(x, axis=1), count)


# -- positions -------------------------------------------------------------------------------------------------------
def angles(d: Streams, position, size, half: int):
    """[size, half]: positions times falling frequencies."""
    speed = d.b.weight("speed", np.asarray([[0.9 / 3.0**i for i in range(half)]], {"f64": "f8", "f32": "f4"}[d.dt]))
    return d.b.mul(d.b.reshape(position, shape=(size, 1)), speed)


def positions(d: Streams, n):
    """0, 1, … as numbers to compute with."""
    return d.b.iota(size=n, dtype=d.dt) if d.flag() else d.b.cast(d.b.iota(size=n), dtype=d.dt)


def sinusoids(d: Streams, position, size, width: int):
    a = angles(d, position, size, width // 2)
    return d.b.concat(d.b.sin(a), d.b.cos(a), axis=1)


@builder("sinusoidal positions", "learned positions", often=1.2)
def _(d, x, kind):
    x, n = d.linear(x, 4), d.frames(x)
    if kind == "sinusoidal positions":
        table = sinusoids(d, positions(d, n), n, 4)
    else:
        table = d.b.slice(d.weight([TABLE, 4], d.dt), axis=0, start=0, stop=n)
        d.caps.append((n, TABLE))
    table = d.b.reshape(table, shape=(1, n, 4)) if d.flag() else table
    return d.b.add(x, table) if d.flag() else d.b.mul(d.b.tanh(x), table)


def rotated(d: Streams, y, n):
    """Rotary positions over the last 4 features of [.., T, 4] (Su et al. 2021)."""
    a = angles(d, positions(d, n), n, 2)
    cos, sin = d.b.cos(a), d.b.sin(a)
    last = y.type.rank - 1
    p, q = (d.b.slice(y, axis=last, start=i, stop=i + 2) for i in (0, 2))
    left = d.b.sub(d.b.mul(p, cos), d.b.mul(q, sin))
    return d.b.concat(left, d.b.add(d.b.mul(q, cos), d.b.mul(p, sin)), axis=last)


@builder("rotary positions", often=1.2)
def _(d, x):
    return rotated(d, d.linear(x, 4), d.frames(x))


# -- attention -------------------------------------------------------------------------------------------------------
def band(d: Streams, n, chunk: int, left: int, right: int | None):
    """[n, n] bool: whether query i looks at key j, `left` to `right` chunks away; right None: no limit here."""
    b, i64 = d.b, lambda v: d.b.const(v, "i64")
    at = b.iota(size=n)
    at = b.floor_div(at, i64(chunk)) if chunk > 1 else at
    away = b.sub(b.reshape(at, shape=(1, n)), b.reshape(at, shape=(n, 1)))
    if right is None:
        return b.less_equal(i64(-left), away)
    if d.flag():
        return b.logical_and(b.less_equal(i64(-left), away), b.less_equal(away, i64(right)))
    return b.logical_not(b.logical_or(b.less(away, i64(-left)), b.less(i64(right), away)))


def added(d: Streams, mask):
    """A mask of bool as numbers to add."""
    zero, low = d.const(0.0), d.const(d.pick((float("-inf"), -1e9)))
    return d.b.where(mask, zero, low)


def toeplitz(d: Streams, n, heads: int):
    """[heads, n, n]: a learned number for every distance j - i."""
    b, i64, most = d.b, lambda v: d.b.const(v, "i64"), d.int(3, 9)
    at = b.iota(size=n)
    away = b.sub(b.reshape(at, shape=(1, n)), b.reshape(at, shape=(n, 1)))
    index = b.add(b.maximum(b.minimum(away, i64(most)), i64(-most)), i64(most))
    if d.flag():
        return b.transpose(b.gather(d.weight([2 * most + 1, heads], d.dt), index), perm=(2, 0, 1))
    return b.gather(d.weight([heads, 2 * most + 1], d.dt), index, axis=1)


def skewed(d: Streams, q, n, heads: int, size: int):
    """[N, heads, n, n]: q_i · p_(i - j), by pad, reshape and slice (Dai et al. 2019)."""
    b = d.b
    back = b.sub(b.cast(b.extent(n - 1), dtype=d.dt), b.iota(size=2 * n - 1, dtype=d.dt))
    table = d.b.linear(sinusoids(d, back, 2 * n - 1, 4), d.weights(heads * size, 4, dtype=d.dt), None)
    table = b.transpose(b.reshape(table, shape=(2 * n - 1, heads, size)), perm=(1, 2, 0))
    scores = b.matmul(q, table)
    scores = b.pad(scores, pads=((0, 0), (0, 0), (0, 0), (1, 0)))
    scores = b.reshape(scores, shape=(d.batch, heads, 2 * n, n))
    scores = b.slice(scores, axis=2, start=1, stop=2 * n)
    scores = b.reshape(scores, shape=(d.batch, heads, n, 2 * n - 1))
    return b.slice(scores, axis=3, start=0, stop=n)


def split_heads(d: Streams, x, heads: int, size: int, units: bool = True):
    """[N, heads, T, size]"""
    x = d.linear(x, heads * size) if units else x
    return d.b.transpose(d.b.reshape(x, shape=(d.batch, d.frames(x), heads, size)), perm=(0, 2, 1, 3))


def merged(d: Streams, y, n):
    heads, size = y.type.sizes[1], y.type.sizes[3]
    return d.b.reshape(d.b.transpose(y, perm=(0, 2, 1, 3)), shape=(d.batch, n, heads * size))


BANDS = ("attention chunk", "attention window", "attention causal")
BIASES = ("attention toeplitz", "attention skew", "attention rotary")


@builder(*BANDS, *BIASES, often=1.2)
def _(d, x, kind):
    n, heads, size = d.frames(x), d.pick((1, 2)), 4 if kind == "attention rotary" else d.int(1, 3)
    groups = d.pick((1, heads))
    source = x if d.flag(0.6) else d.mate(x)  # keys and values may come later or sooner than queries
    q, k, v = (split_heads(d, s, g, size) for s, g in ((x, heads), (source, groups), (source, groups)))
    if groups < heads:
        d.feature("attention grouped")
    if kind == "attention rotary":
        q, k = rotated(d, q, n), rotated(d, k, n)
    causal = kind == "attention causal"
    chunk = 1 if kind == "attention window" else d.pick((1, 2, 3, 4))
    left, right = d.int(0, 2 if chunk > 1 else 5), d.pick((0, 0, 1, 2) if chunk > 1 else (0, 1, 2, 3))
    mask = band(d, n, chunk, left, None if causal else right)
    if chunk > 1:
        d.chunks.append((chunk, d.rate(x)))
    scale = 1 / math.sqrt(size)
    if kind in ("attention toeplitz", "attention skew"):
        bias = toeplitz(d, n, heads) if kind == "attention toeplitz" else skewed(d, q, n, heads, size)
        mask = d.b.add(bias, added(d, mask)) if d.flag() else d.b.where(mask, bias, d.const(-1e9))
    elif d.flag():
        mask = added(d, mask)
    if d.flag(0.4) and mask.type.rank < 4:
        mask = d.b.reshape(mask, shape=(1,) * (4 - mask.type.rank) + mask.type.sizes)
    return merged(d, d.b.attention(q, k, v, mask, scale=scale, causal=causal), n)


@builder("attention spelled out", often=1.2)
def _(d, x):
    """Two products and a softmax, not recognised as one op."""
    n, heads, size, chunk = d.frames(x), 2, d.int(1, 3), d.int(1, 3)
    q, k, v = (split_heads(d, x, heads, size) for _ in range(3))
    mask = band(d, n, chunk, d.int(0, 2), d.int(0, 1))
    scores = d.b.mul(d.b.matmul(q, d.b.transpose(k, perm=(0, 1, 3, 2))), d.const(0.7))
    if d.flag():
        scores = d.b.add(scores, added(d, mask))
    else:
        scores = d.b.where(mask, scores, d.const(float("-inf")))
    return merged(d, d.b.matmul(d.b.softmax(scores, axis=3), v), n)


@builder("attention to memory", often=1.2)
def _(d, x):
    """Keys and values that are the same at every frame: weights, or another input of the model."""
    n, heads, size, frames = d.frames(x), d.pick((1, 2)), d.int(1, 3), d.int(2, 4)
    memory = next((v for v in d.graph.inputs if time_axis(v) is None), None)
    q = split_heads(d, x, heads, size)
    if d.flag() or memory is not None:
        memory = memory or d.input([d.batch, 3, 2], d.dt)
        d.feature("attention to an input")
        m = memory.type.sizes[1]
        both = (d.b.linear(memory, d.weights(heads * size, 2, dtype=d.dt), None) for _ in range(2))
        k, v = (d.b.transpose(d.b.reshape(y, shape=(d.batch, m, heads, size)), perm=(0, 2, 1, 3)) for y in both)
    else:
        k, v = (d.repeated([heads, frames, size]) for _ in range(2))
    return merged(d, d.b.attention(q, k, v, None, scale=0.7), n)


# -- tokens ----------------------------------------------------------------------------------------------------------
def tokens(d: Streams, x):
    """[N, T]: the best of 4 classes a frame."""
    logits = d.b.linear(d.last(x), d.weights(4, d.channels(x), dtype=d.dt), d.weight([4], d.dt, scale=0.5))
    return d.b.argmax(logits, axis=2)


@builder("argmax", jumps=True)
def _(d, x):
    y = tokens(d, x)
    if d.flag(0.3):
        return y
    return d.b.gather(d.weight([4, 3], d.dt), y) if d.flag() else d.b.cast(y, dtype=d.dt)


@builder("gather_elements", often=1.5, jumps=True)
def _(d, x):
    y = d.linear(x, 3)
    return d.b.gather_elements(y, d.b.argmax(d.b.neg(y), axis=2, keepdims=True), axis=2)


@builder("ctc", often=1.5, jumps=True)
def _(d, x):
    """The token where it is neither blank nor the one before, else -1."""
    b, i64 = d.b, lambda v: d.b.const(v, "i64")
    token, n = tokens(d, x), d.frames(x)
    if d.flag():
        before = b.slice(b.pad(token, pads=((0, 0), (1, 0)), value=-1.0), axis=1, start=0, stop=n)
    else:
        head = b.weight("head", np.full((1, 1), -1))
        head = b.expand(head, shape=(d.batch, 1)) if d.batch != 1 else head
        before = b.concat(head, b.slice(token, axis=1, start=0, stop=n - 1), axis=1)
    kept = b.logical_and(b.logical_not(b.equal(token, i64(0))), b.logical_not(b.equal(token, before)))
    return b.where(kept, token, i64(-1))


@builder("qdq linear", often=1.2, jumps=True)
def _(d, x):
    x = d.last(x)
    q = d.b.dequantize(d.b.quantize(x, scale=0.0413, zero_point=3), dtype=d.dt)
    w = d.b.dequantize(per_channel(d, (3, d.channels(x)), 0), dtype=d.dt)
    return d.b.linear(q, w, d.weight([3], d.dt, scale=0.3))

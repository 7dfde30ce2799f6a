"""Random graphs in which every pass finds work: `idiom_graph()` strings together what the passes look for.

Each idiom takes a value [batch, time, features] and gives one or several; ops in it may carry `then`, `out` or
`dynamic`, and every formula comes in its variants. A new pass needs an idiom here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import numpy as np
from hypothesis import strategies as st
from idiom_drawing import GRID, Idioms
from op_cases import Case, per_channel
from speechc.ir.expr import symbol
from speechc.ir.graph import Value
from speechc.ir.types import Dim, time_input

IDIOMS: dict[str, Callable] = {}


def idiom(build: Callable) -> Callable:
    """Register `build(d, x)`, x being f32[N, T, C] with known N and C; it gives one or several values."""
    IDIOMS[build.__name__] = build
    return build


@st.composite
def idiom_graph(draw, least: int = 2, most: int = 5) -> Case:
    """`least` to `most` idioms, chained where that is possible or side by side, f32, outputs of about unit size."""
    names = draw(st.lists(st.sampled_from(sorted(IDIOMS)), min_size=least, max_size=most))
    return planted(names, draw(st.integers(0, 2**32)))


def seeded_graphs(count: int) -> Iterator[Case]:
    """The same idiom graphs every time, every idiom as often as any other."""
    draw = random.Random(0)
    return (planted(draw.choices(sorted(IDIOMS), k=4), seed) for seed in range(count))


def planted(names: list[str], seed: int) -> Case:
    """A graph of these idioms, all the rest as `seed` says."""
    d = Idioms(seed)
    frames = Dim(d.int(6, 9))
    if d.int(0, 3):
        d.sizes["T"] = frames.size
        frames = time_input(symbol("T"), "clock")
    x = d.input([d.int(1, 2), frames, d.pick((4, 8))], "f32")
    ends: list[Value] = []
    for name in names:
        d.begin(name, len(ends))
        made = IDIOMS[name](d, x)
        made = list(made) if isinstance(made, tuple) else [made]
        made = [d.b.dequantize(v) if v.type.quant is not None else v for v in made]
        ends += made
        y = made[-1]
        if y.type.rank == 3 and all(isinstance(s, int) for s in y.type.sizes[::2]) and d.flag():
            x = y if y.type.shape[1] == x.type.shape[1] and y.type.sizes[2] > 3 and y.type.sizes[2] % 2 == 0 else x
    return d.finish([v for v in ends if not v.users] or ends[-1:])


# -- windows, norms and products -----------------------------------------------------------------------------------
@idiom
def pad_window(d, x):
    kind, x = d.pick(("conv", "max_pool", "avg_pool")), d.first(x)
    neutral = float("-inf") if kind == "max_pool" else 0.0
    value = d.pick((neutral, neutral, 1.0))
    x = d.b.pad(x, pads=((0, 0), (0, 0), (d.int(0, 1), 1)), value=value)
    if kind == "conv":
        return d.conv(x, 3, **d.carry())
    more = {"count_pad": d.flag()} if kind == "avg_pool" else {"dilation": (1,)}
    return getattr(d.b, kind)(x, kernel=(3,), stride=(d.int(1, 2),), pad=((d.int(0, 1), 1),), **more)


@idiom
def crop_window(d, x):
    x = d.first(x)
    y = d.b.pad(x, pads=((0, 0), (0, 0), (1, 2))) if d.flag() else d.conv(x, 3)
    return d.b.slice(y, axis=2, start=d.int(0, 1), stop=y.type.sizes[2] - 1)


@idiom
def conv_norm(d, x):
    y = d.conv(d.first(x), **d.carry())
    return d.norm(y, 1, **d.carry())


@idiom
def linear_norm(d, x):
    return d.norm(d.linear(x, **d.carry()), 2, **d.carry())


@idiom
def loud_units(d, x):
    """A feed-forward layer of 32 hidden units, a few of which are far larger than the others."""
    width = x.type.sizes[2]
    loudness = np.where(np.arange(32) % d.int(11, 20) == 3, 50.0, 1.0).astype(np.float32)
    weights = (d.weights(32, width, dtype="f32").array * loudness[:, None]).astype(np.float32)
    y = d.b.linear(x, d.b.weight("w", weights), d.maybe(lambda: d.vector(32)), **d.carry())
    y = d.b.emit(d.pick(("relu", "gelu", "silu")), (y,), {})
    return d.b.mul(d.linear(y, 4, **d.carry()), d.b.const(0.02, "f32"))


@idiom
def norm_alone(d, x):
    return d.norm(d.first(x), 1, **d.carry())


@idiom
def scaled_product(d, x):
    y = d.linear(x, **d.carry()) if d.flag() else d.conv(d.first(x), **d.carry())
    scale = d.b.const(d.pick((0.5, 0.3, 2.0)), "f32")
    return d.b.div(y, scale, **d.carry()) if d.flag() else d.b.mul(*d.pick([(y, scale), (scale, y)]), **d.carry())


@idiom
def pointwise_conv(d, x):
    form = d.int(0, 2)
    if form == 0:
        return d.conv(x, 1, last=True, **d.carry())
    if form == 1:
        return d.conv(d.first(x), 1, **d.carry())
    n, t, c = x.type.sizes
    square = d.b.transpose(d.b.reshape(x, shape=(n, t, 2, c // 2)), perm=(0, 3, 1, 2))
    return d.conv(square, 1, **d.carry())


@idiom
def frames(d, x, products: int = 1):
    wave = d.b.mean(x, axes=(2,), keepdims=False)
    if d.int(0, 5) == 5:
        wave = d.first(x)  # more than one dimension in front of time
    framed = d.b.frame(wave, size=d.int(2, 4), hop=d.int(1, 2))
    return tuple(d.linear(framed, **d.carry()) for _ in range(products))


@idiom
def frames_read_twice(d, x):
    return frames(d, x, 2)


@idiom
def two_products(d, x):
    """Of a nonlinearity, or of a norm with weights of its own, which now and then something else reads too."""
    if d.int(0, 3) == 3:
        x = d.b.tanh(x)
    else:
        width = x.type.sizes[2]
        bias = d.maybe(lambda: d.vector(width))
        x = d.b.layer_norm(x, d.vector(width, "positive"), bias, axis=2, eps=1e-5, **d.carry())
    more = (d.b.neg(x),) if d.int(0, 6) == 6 else ()
    return d.linear(x, **d.carry()), d.linear(x), *more


@idiom
def conv_stack(d, x):
    """What is laid out anew: convolutions, a pool, a norm over groups."""
    y = d.b.relu(d.conv(d.first(x), 3, **d.carry("out")))
    c = y.type.sizes[1]
    if d.flag():
        y = d.b.group_norm(y, d.vector(c), d.vector(c), groups=c // 2 if c % 2 == 0 else 1, **d.carry("out"))
    return d.b.transpose(d.conv(y), perm=(0, 2, 1))


@idiom
def then_relu(d, x):
    options = (lambda: d.linear(x, **d.carry()), lambda: d.b.add(x, d.b.tanh(x), **d.carry()))
    made = d.pick((*options, lambda: d.conv(d.first(x), **d.carry())))()
    return d.b.relu(made, **d.carry())


@idiom
def large_weights(d, x):
    wide = d.b.tanh(d.b.linear(x, d.weights(512 // x.type.sizes[-1] + 8, x.type.sizes[-1], dtype="f32"), None))
    return d.b.linear(wide, d.weights(8, wide.type.sizes[-1], dtype="f32"), d.vector(8), **d.carry("out"))


# -- formulas ------------------------------------------------------------------------------------------------------
@idiom
def attention(d, x):
    n, t, c = x.type.sizes
    scale = d.b.const(1 / math.sqrt(c // 2), "f32")
    heads = lambda: d.b.transpose(d.b.reshape(d.linear(x, c), shape=(n, t, 2, c // 2)), perm=(0, 2, 1, 3))
    q, k, v, where = heads(), d.b.transpose(heads(), perm=(0, 1, 3, 2)), heads(), d.int(0, 3)
    q = d.b.mul(q, scale, **d.carry()) if where == 0 else q
    k = d.b.mul(scale, k) if where == 1 else k
    scores = d.b.matmul(q, k, **d.carry())
    scores = d.b.mul(scores, scale, **d.carry()) if where == 2 else scores
    if d.flag():  # masks differ along time, so that leaving one out is seen
        mask = d.b.mul(d.b.reshape(d.b.mean(x, axes=(2,)), shape=(n, 1, 1, t)), d.b.const(4.0, "f32"))
        scores = d.b.add(*d.pick([(scores, mask), (mask, scores)]), **d.carry())
    scores = d.b.div(scores, d.b.const(2.0, "f32")) if where == 3 else scores
    mixed = d.b.matmul(d.b.softmax(scores, axis=3, **d.carry()), v, **d.carry())
    return d.b.reshape(d.b.transpose(mixed, perm=(0, 2, 1, 3)), shape=(n, t, c)) if mixed.type.quant is None else mixed


@idiom
def masked_attention(d, x):
    """Scores replaced where a mask hides them, in the ways of PyTorch, ESPnet and NeMo."""
    b, (n, t, c) = d.b, x.type.sizes
    heads = lambda: b.transpose(b.reshape(d.linear(x, c), shape=(n, t, 2, c // 2)), perm=(0, 2, 1, 3))
    scores = b.matmul(heads(), b.transpose(heads(), perm=(0, 1, 3, 2)), **d.carry())
    at = b.iota(size=t)
    mask = b.less_equal(b.reshape(at, shape=(1, t)), b.reshape(b.add(at, b.const(d.int(-1, 2), "i64")), shape=(t, 1)))
    mask = mask if d.flag() else b.logical_not(mask)
    hides, number = d.flag(), d.pick((float("-inf"), float("-inf"), -1e4))
    fill = lambda v, number: b.where(mask, *((b.const(number, "f32"), v) if hides else (v, b.const(number, "f32"))))
    scores = b.mul(scores, b.const(0.5, "f32")) if d.flag() else scores
    weights = b.softmax(fill(scores, number), axis=3, **d.carry("dynamic"))
    weights = fill(weights, 0.0) if d.flag() and weights.type.quant is None else weights
    mixed = b.matmul(weights, heads())
    return b.reshape(b.transpose(mixed, perm=(0, 2, 1, 3)), shape=(n, t, c))


@idiom
def backward(d, x):
    """A recurrence from the last frame to the first, from a carry of zeros or another."""
    kind, n = d.pick(("lstm", "gru", "rnn")), d.int(2, 4)
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    carry = d.b.weight("h", (d.rng.standard_normal((x.type.sizes[0], n)) * d.int(0, 1)).astype("float32"))
    w, r = d.weights(gates * n, x.type.sizes[2], dtype="f32"), d.weights(gates * n, n, dtype="f32")
    biases = [d.maybe(lambda: d.vector(gates * n)) for _ in range(2 if kind == "gru" else 1)]
    starts = [carry] * (2 if kind == "lstm" else 1)
    return getattr(d.b, kind)(x, *starts, w, r, *biases, reverse=d.int(0, 3) > 0)[0]


@idiom
def excitation(d, x):
    """Channels weighted by what a statistic over time says (squeeze and excitation)."""
    kind, keepdims = d.pick(("mean", "max", "sum")), d.flag()
    squeezed = d.b.emit(kind, (x,), {"axes": (1,), "keepdims": keepdims, **d.carry("out", "dynamic")})
    gate = d.b.sigmoid(d.linear(squeezed, x.type.sizes[2], **d.carry("out")))
    return d.b.mul(x, gate if keepdims else d.b.reshape(gate, shape=(x.type.sizes[0], 1, x.type.sizes[2])))


@idiom
def activation(d, x):
    b, c = d.b, lambda v: d.b.const(v, "f32")
    form = d.pick(("erf", "tanh", "silu", "sigmoid"))
    if form == "silu":
        return b.mul(x, b.sigmoid(x, **d.carry()), **d.carry())
    if form == "sigmoid":
        bottom = b.add(b.exp(b.neg(x)), c(1.0), **d.carry())
        return b.reciprocal(bottom) if d.flag() else b.div(c(1.0), bottom, **d.carry())
    if form == "erf":
        inner = b.div(x, c(math.sqrt(2))) if d.flag() else b.mul(x, c(math.sqrt(0.5)))
        whole = b.add(b.erf(inner, **d.carry()), c(1.0))
    else:
        cube = b.pow(x, c(3.0)) if d.flag() else b.mul(b.mul(x, x), x)
        inner = b.mul(b.add(x, b.mul(cube, c(0.044715))), c(math.sqrt(2 / math.pi)), **d.carry())
        whole = b.add(b.tanh(inner), c(1.0))
    if d.flag():
        return b.mul(b.mul(x, c(0.5)), whole, **d.carry())
    return b.mul(b.mul(x, whole, **d.carry()), c(0.5))


@idiom
def silu(d, x):
    return d.b.silu(x, **d.carry())


@idiom
def norm(d, x):
    b, two, eps = d.b, d.b.const(2.0, "f32"), d.b.const(1e-3, "f32")
    axes = (2,) if d.int(0, 4) else (1,)
    layer = d.flag()
    y = b.sub(x, b.mean(x, axes=axes, keepdims=True), **d.carry()) if layer else x
    square = b.mul(y, y) if d.flag() else b.pow(y, two)
    spread = b.add(b.mean(square, axes=axes, keepdims=True), eps, **d.carry("out"))
    y = b.div(y, b.sqrt(spread)) if d.flag() else b.mul(y, b.rsqrt(spread), **d.carry())
    y = b.mul(y, d.vector(x.type.sizes[2])) if d.flag() else y
    return b.add(y, d.vector(x.type.sizes[2])) if d.flag() else y


@idiom
def log_of_softmax(d, x):
    return d.b.log(d.b.softmax(x, axis=d.int(1, 2)), **d.carry("out"))


@idiom
def product_and_bias(d, x):
    w = d.weight([x.type.sizes[2], 5], "f32", scale=0.4)
    return d.b.add(d.b.matmul(x, w, **d.carry()), d.vector(5), **d.carry())


@idiom
def power_of_magnitude(d, x):
    y = d.b.tanh(x)
    m = d.b.sqrt(d.b.add(d.b.mul(x, x), d.b.mul(y, y), **d.carry("out")), **d.carry())
    return d.b.mul(m, m, **d.carry()) if d.flag() else d.b.pow(m, d.b.const(2.0, "f32"))


# -- what goes -----------------------------------------------------------------------------------------------------
@idiom
def identities(d, x):
    b, c = d.b, lambda v: d.b.const(v, "f32")
    options = (
        lambda v: b.reshape(v, shape=v.type.sizes),
        lambda v: b.transpose(b.transpose(v, perm=(0, 2, 1)), perm=(0, 2, 1)),
        lambda v: b.transpose(b.transpose(v, perm=(1, 2, 0)), perm=(2, 0, 1)),
        lambda v: b.add(v, c(0.0), **d.carry("out", "dynamic")),
        lambda v: b.mul(c(1.0), v),
        lambda v: b.neg(b.neg(v, **d.carry()), **d.carry("out")),
        lambda v: b.mul(v, b.expand(d.weight([1, 1, v.type.sizes[2]], "f32"), shape=v.type.sizes)),
        lambda v: b.add(v, c(0.0), out=("i8", GRID["scale"], GRID["zero_point"])),
    )
    for _ in range(d.int(1, 3)):
        x = d.pick(options)(x)
        x = b.dequantize(x) if x.type.quant is not None else x
    return x


@idiom
def twice(d, x):
    carried = d.carry("out")
    return d.b.add(d.b.exp(d.b.tanh(x), **carried), d.b.sin(d.b.exp(d.b.tanh(x), **d.pick((carried, {})))))


@idiom
def dead(d, x):
    d.b.exp(d.b.add(x, d.b.const(1.0, "f32")))
    return d.b.tanh(x)


@idiom
def constants(d, x):
    v = d.vector(x.type.sizes[2])
    made = d.b.mul(d.b.sigmoid(v, **d.carry()), d.b.add(v, d.b.const(0.5, "f32"), **d.carry()))
    return d.b.add(x, made)


# -- quantized forms -----------------------------------------------------------------------------------------------
@idiom
def quantized(d, x):
    b, n = d.b, x.type.sizes[2]
    real = lambda v: b.dequantize(b.quantize(v, **GRID))
    forms = (
        lambda v: b.linear(v, b.dequantize(per_channel(d, (6, n), 0)), d.maybe(lambda: d.vector(6)), **d.carry("out")),
        lambda v: b.add(v, real(b.tanh(v)), **d.carry("out", "dynamic")),
        lambda v: b.sigmoid(v),
        lambda v: b.conv(b.transpose(v, perm=(0, 2, 1)), b.dequantize(per_channel(d, (4, n, 3), 0)), None),
    )
    y = d.pick(forms)(real(x))
    if d.int(0, 3) == 3:
        return real(b.relu(y, **d.carry("out")))
    return real(y)


@idiom
def quantized_chain(d, x):
    """Products of values on grids, as a quantizer leaves them."""
    b, n = d.b, x.type.sizes[2]
    for _ in range(d.int(1, 2)):
        x = b.dequantize(b.quantize(x, **GRID))
        x = b.linear(x, b.dequantize(per_channel(d, (n, n), 0)), d.maybe(lambda: d.vector(n)), **d.carry("out"))
    return b.dequantize(b.quantize(b.relu(x) if d.flag() else x, **GRID))


@idiom
def class_scores(d, x):
    """Log-probabilities of a few classes, frames first or last."""
    y = d.linear(x, d.int(2, 6))
    return d.b.log_softmax(y, axis=2) if d.flag() else d.b.log_softmax(d.first(y), axis=1)

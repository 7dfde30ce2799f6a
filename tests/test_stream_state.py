"""What a step graph pays for: states as small as the theory says, and no clock where none is needed."""

from __future__ import annotations

import numpy as np
import pytest
from speechc.compiler.step_runner import run_stream
from speechc.ir.errors import UnsupportedError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Graph, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.text import clone
from speechc.ir.types import Tensor, time_input
from speechc.passes.base import Context, make

T = symbol("T")
RNG = np.random.default_rng(0)


def step_of(build, chunk: int, channels: int = 3) -> Graph:
    """The step graph of what `build(builder, x)` makes of x [1, channels, T]."""
    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [1, channels, time_input(T, "audio")]))
    graph.output(build(Builder(graph, Loc("m")), x), "y")
    make(f"streaming{{chunk={chunk}}}").run(graph, Context())
    return graph


def weight(b: Builder, *shape: int):
    return b.weight("w", RNG.standard_normal(shape).astype(np.float32))


def frames(graph: Graph) -> int:
    """Frames held in all histories of a graph of 3 channels."""
    return sum(int(np.prod(v.type.sizes)) for n, v in graph.states.items() if not n.startswith("clock.")) // 3


def causal(b: Builder, x):
    """A causal convolution with stride, a GRU and pointwise ops: nothing is late, nothing is padded behind."""
    y = b.relu(b.conv(x, weight(b, 4, 3, 5), None, pad=((8, 0),), dilation=(2,)))
    y = b.conv(y, weight(b, 4, 4, 2), None, pad=((0, 0),), stride=(2,))
    h = b.weight("h", np.zeros((1, 6), np.float32))
    y, _ = b.gru(b.transpose(y, perm=(0, 2, 1)), h, weight(b, 18, 4), weight(b, 18, 6))
    return b.softmax(b.linear(y, weight(b, 7, 6)), axis=2)


def test_a_causal_graph_has_no_clock():
    graph = step_of(causal, 4)
    assert [v.name for v in graph.inputs] == ["x"]
    assert graph.output_names == ["y"]
    assert sorted(graph.states) == ["m.carry.h", "m.history"]
    assert {op.kind for op in graph.ops} == {
        "history", "conv", "relu", "transpose", "gru", "linear", "softmax", "read", "write"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reach", "stride", "front", "late"),
    [(k, s, p, d) for k in (1, 2, 5) for s in (1, 2, 4) for p in (0, 2, 6) for d in (0, 1, 3)],
)
def test_windows_hold_what_the_theory_says(reach, stride, front, late):
    """A stream `late` frames behind, then a window: delay max(0, ⌈(d+K-s-pl)/s⌉) = d', state max(0, d's+pl-d)."""

    def build(b, x):
        behind = b.slice(x, axis=2, start=late, stop=T) if late else x  # a crop in front: `late` frames of delay
        return b.conv(behind, weight(b, 4, 3, reach), None, pad=((front, 0),), stride=(stride,))

    graph = step_of(build, 8)
    delay = max(0, -(-(late + reach - stride - front) // stride))
    assert graph.outputs[0].type.shape[2].time.delay == delay
    assert frames(graph) == max(0, delay * stride + front - late)


@pytest.mark.parametrize(("chunk", "left", "right", "step"), [(4, 2, 0, 8), (4, 1, 1, 8), (3, 2, 0, 8), (8, 1, 0, 4)])
@pytest.mark.parametrize("late", [0, 1, 5])
def test_attention_holds_what_the_theory_says(chunk, left, right, step, late):
    """d' = max(d, RC + C - g + g⌈d/g⌉); d' - d queries and d' - d + LC + C - g + ((-d') mod g) keys and values."""

    def build(b, x):
        x = b.slice(x, axis=2, start=late, stop=T) if late else x
        n = T - late
        y = b.reshape(b.transpose(x, perm=(0, 2, 1)), shape=(1, 1, n, 3))
        at = b.floor_div(b.iota(size=n), b.const(chunk, "i64"))
        far = b.sub(b.reshape(at, shape=(1, n)), b.reshape(at, shape=(n, 1)))
        seen = b.logical_and(b.less_equal(b.const(-left, "i64"), far), b.less_equal(far, b.const(right, "i64")))
        return b.attention(y, y, y, seen, scale=1.0)

    graph = step_of(build, step)
    g = int(np.gcd(chunk, step))
    delay = max(late, right * chunk + chunk - g + g * -(-late // g))
    assert graph.outputs[0].type.shape[2].time.delay == delay
    assert frames(graph) == (delay - late) + 2 * (delay - late + left * chunk + chunk - g + -delay % g)


@pytest.mark.parametrize(("kernel", "stride", "crop"), [(4, 2, 1), (2, 2, 0), (7, 3, 2), (16, 8, 4)])
@pytest.mark.parametrize("outputs", [1, 3, 8])
def test_transposed_convolutions_hold_the_smaller_side(kernel, stride, crop, outputs):
    """The last ⌊(K-1)/s⌋ inputs, or the K-s sums that wait for more: whichever is less."""

    def build(b, x):
        return b.conv_transpose(x, weight(b, 3, outputs, kernel), None, stride=(stride,), pad=((crop, crop),))

    graph = step_of(build, 4)
    held = sum(int(np.prod(v.type.sizes)) for n, v in graph.states.items() if not n.startswith("clock."))
    assert held == min((kernel - 1) // stride * 3, max(kernel - stride, 0) * outputs)
    assert graph.outputs[0].type.shape[2].time.delay == crop


@pytest.mark.parametrize("late", [0, 2])
def test_joins_hold_the_difference(late):
    """x + conv(x): the delay of the convolution, once."""

    def build(b, x):
        x = b.slice(x, axis=2, start=late, stop=T) if late else x
        return b.add(x, b.conv(x, weight(b, 3, 3, 5), None, pad=((2, 2),)))

    assert frames(step_of(build, 4)) == 4 + 2


def test_scores_are_no_output():
    """A model that returns its attention weights: the error names the output, not the attention."""

    def build(b, x):
        y = b.transpose(x, perm=(0, 2, 1))
        return b.matmul(y, x)

    with pytest.raises(UnsupportedError, match=r"output y holds f32\[1, T@audio, T@audio\]"):
        step_of(build, 4)


def shifted(b, x):
    """x, one frame late, as token-shift models write it: a zero in front of all but the last frame."""
    zero = b.weight("zero", np.zeros((1, 3, 1), np.float32))
    return b.concat(zero, b.slice(x, axis=2, start=0, stop=T - 1), axis=2)


def chomped(b, x):
    """A causal convolution as Bai et al. (2018) write it: padded on both sides, the future cut off behind."""
    y = b.conv(x, weight(b, 4, 3, 5), None, pad=((4, 4),))
    return b.slice(y, axis=2, start=0, stop=T)


@pytest.mark.parametrize("build", [shifted, chomped, lambda b, x: b.sub(x, shifted(b, x))])
def test_shifts_and_crops_have_no_clock(build):
    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [1, 3, time_input(T, "audio")]))
    graph.output(build(Builder(graph, Loc("m")), x), "y")
    whole = clone(module).main
    for name in ("fold-crop", "streaming{chunk=4}"):
        make(name).run(graph, Context())
    assert [v.name for v in graph.inputs] == ["x"] and graph.outputs[0].type.shape[2].time.delay == 0
    for n in (1, 3, 4, 11):
        feeds = {"x": RNG.standard_normal((1, 3, n)).astype(np.float32)}
        np.testing.assert_allclose(run_stream(graph, feeds)[0], run(whole, feeds)[0], atol=1e-5)


@pytest.mark.parametrize(("front", "behind", "delay"), [(3, 1, 1), (1, 3, 0), (2, 2, 0), (0, 4, 0)])
def test_pads_and_crops_wait_no_longer_than_they_must(front, behind, delay):
    """pad(x, 2, 2) without its first and last frames is x, shifted: the least delay is that of the shift."""

    def build(b, x):
        return b.slice(b.pad(x, pads=((0, 0), (0, 0), (2, 2))), axis=2, start=front, stop=T + 4 - behind)

    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [1, 3, time_input(T, "audio")]))
    graph.output(build(Builder(graph, Loc("m")), x), "y")
    for name in ("fold-crop", "streaming{chunk=4}"):
        make(name).run(graph, Context())
    assert graph.outputs[0].type.shape[2].time.delay == delay


def test_an_inverse_stft_streams():
    """Frames laid over one another, divided by their envelope, which depends on where the stream ends."""
    module = Module()
    graph = module.graph("main")
    audio = graph.input("x", Tensor("f32", [1, time_input(T, "audio")]))
    b = Builder(graph, Loc("m"))
    window = b.weight("window", np.hanning(18)[1:-1].astype(np.float32))
    count = (T - 16) // 4 + 1
    frames = b.mul(b.frame(audio, size=16, hop=4), window)
    envelope = b.overlap_add(b.expand(b.mul(window, window), shape=(1, count, 16)), hop=4)
    graph.output(b.div(b.overlap_add(b.mul(frames, window), hop=4), envelope), "y")
    whole = clone(module).main
    make("streaming{chunk=8}").run(graph, Context())
    for n in (16, 23, 40, 61):
        feeds = {"x": RNG.standard_normal((1, n)).astype(np.float32)}
        np.testing.assert_allclose(run_stream(graph, feeds)[0], run(whole, feeds)[0], atol=1e-5)


def test_a_step_that_fits_nothing_is_told_what_fits_all():
    """Strides of 2 and 3: 6 frames, not 2 and then 3."""

    def build(b, x):
        x = b.conv(x, weight(b, 3, 3, 2), None, stride=(2,))
        return b.conv(x, weight(b, 3, 3, 3), None, stride=(3,))

    with pytest.raises(UnsupportedError) as caught:
        step_of(build, 5)
    assert caught.value.code == "SC200" and "multiple of 6 input frames" in caught.value.hints[0]

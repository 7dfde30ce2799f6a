"""Several streams in one batch: each is what it would be alone, whatever its length, its neighbours and its resets.

The graphs are captured for a fixed batch, of 1 or of as many rows as there are streams; free-batch makes it vary.
"""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import stream_proof
from rewriting import feeds_of
from speechc.compiler.manager import evaluate64
from speechc.compiler.step_runner import run_stream
from speechc.ir.errors import UnsupportedError
from speechc.ir.interpreter import initial_states
from speechc.ir.interpreter import run as interpret
from speechc.ir.text import clone, retyped
from speechc.ir.verifier import verify
from speechc.passes.base import Context, make
from stream_cases import drawn, plans, time_axis
from stream_net import LENGTHS, TOLERANCE, Net, T, assert_alike, signals, step_of

CASES = {}


def case(function):
    """Register what builds the graph of x: f32[batch, 3, T]."""
    CASES[function.__name__] = function
    return function


def built(name, batch):
    b = Net(batch)
    y = CASES[name](b, b.x)
    b.graph.output(y, "y")
    return retyped(b.module)


@case
def conv_and_pool(b, x):
    y = b.conv(b.late(x), b.w(4, 3, 3), b.w(4), pad=((2, 1),), stride=(2,), dilation=(1,))
    return b.avg_pool(y, kernel=(3,), stride=(1,), pad=((1, 1),), count_pad=False)


@case
def images(b, x):
    y = b.reshape(b.late(x), shape=(b.batch, 1, 3, T))
    y = b.max_pool(b.conv(y, b.w(2, 1, 3, 3), b.w(2), pad=((1, 1), (1, 1)), stride=(1, 1), dilation=(1, 1)),
                   kernel=(1, 2), stride=(1, 2), pad=((0, 0), (0, 1)), dilation=(1, 1))  # fmt: skip
    return b.reshape(b.transpose(y, perm=(0, 3, 1, 2)), shape=(b.batch, (T + 1) // 2, 6))


@case
def reflect_pads(b, x):
    y = b.frame(b.pad(b.late(x), pads=((0, 0), (0, 0), (2, 2)), mode="reflect"), size=4, hop=2)
    return b.sum(y, axes=(3,))


def recurrent(b, kind, x, start):
    y, gates = b.rows(x), {"lstm": 4, "gru": 3}[kind]
    carries = [start(5) for _ in range(2 if kind == "lstm" else 1)]
    biases = [b.w(5 * gates) for _ in range(1 if kind == "lstm" else 2)]
    return getattr(b, kind)(y, *carries, b.w(5 * gates, 3), b.w(5 * gates, 5), *biases)[0]


@case
def lstm_from_a_weight(b, x):
    return recurrent(b, "lstm", b.late(x), lambda n: b.graph.weight(f"z{len(b.graph.weights)}",
                     np.zeros((b.batch, n), np.float32)))  # fmt: skip


@case
def lstm_from_a_learned_start(b, x):
    return recurrent(b, "lstm", b.late(x, 2), lambda n: b.expand(b.w(1, n), shape=(b.batch, n)))


@case
def gru_from_an_expanded_number(b, x):
    return recurrent(b, "gru", b.late(x), lambda n: b.expand(b.const(0.0, "f32"), shape=(b.batch, n)))


@case
def running_sums(b, x):
    y = b.cummax(b.cumsum(b.late(x), axis=2), axis=2)
    count = b.cast(b.add(b.iota(size=T), b.const(1, "i64")), dtype=x.type.dtype)
    return b.div(y, count)


@case
def attention_by_chunk(b, x):
    y = b.rows(b.late(x))
    return b.attention(b.heads(y), b.heads(y), b.heads(y), b.band(3, 1, 0), scale=0.5)


@case
def attention_with_heads_in_the_batch(b, x):
    y, n = b.rows(b.late(x)), b.batch
    q, k, v = (b.reshape(b.heads(y), shape=(2 * n, T, 3)) for _ in range(3))
    z = b.reshape(b.attention(q, k, v, b.band(3, 2, 1), scale=0.5), shape=(n, 2, T, 3))
    return b.reshape(b.transpose(z, perm=(0, 2, 1, 3)), shape=(n, T, 6))


@case
def attention_with_a_slope(b, x):
    y, m = b.rows(x), b.band(3, 2, 0)
    at = b.iota(size=T)
    ahead = b.cast(b.sub(b.reshape(at, shape=(1, T)), b.reshape(at, shape=(T, 1))), dtype=x.type.dtype)
    bias = b.mul(ahead, b.reshape(b.w(2), shape=(2, 1, 1)))
    bias = b.where(m, bias, b.const(float("-inf"), x.type.dtype))
    return b.attention(b.heads(y), b.heads(y), b.heads(y), bias, scale=0.5)


@case
def attention_with_a_mask_for_every_row(b, x):
    y = b.rows(x)
    mask = b.expand(b.reshape(b.band(3, 1, 0), shape=(1, 1, T, T)), shape=(b.batch, 1, T, T))
    return b.attention(b.heads(y), b.heads(y), b.heads(y), mask, scale=0.5)


@case
def relative_positions(b, x):
    y, dt = b.rows(b.late(x)), x.type.dtype
    q, k, v = b.heads(y), b.heads(y), b.heads(y)
    at = b.cast(b.sub(b.iota(size=2 * T - 1), b.extent(T - 1)), dtype=dt)
    angle = b.mul(b.reshape(at, shape=(2 * T - 1, 1)), b.reshape(b.w(2), shape=(1, 2)))
    table = b.linear(b.concat(b.sin(angle), b.cos(angle), axis=1), b.w(6, 4))
    table = b.transpose(b.reshape(table, shape=(2 * T - 1, 2, 3)), perm=(1, 2, 0))
    z = b.matmul(q, table)
    z = b.reshape(b.pad(z, pads=((0, 0), (0, 0), (0, 0), (1, 0))), shape=(b.batch, 2, 2 * T, T))
    z = b.reshape(b.slice(z, axis=2, start=1, stop=2 * T), shape=(b.batch, 2, T, 2 * T - 1))
    z = b.slice(z, axis=3, start=0, stop=T)
    bias = b.where(b.band(1, 5, 2), z, b.const(float("-inf"), dt))
    return b.attention(q, k, v, bias, scale=0.5)


@case
def learned_positions(b, x):
    return b.add(b.late(x), b.slice(b.w(3, 40), axis=1, start=0, stop=T))


@case
def positions_for_every_row(b, x):
    table = b.reshape(b.slice(b.w(40, 3), axis=0, start=1, stop=T + 1), shape=(1, T, 3))
    return b.concat(b.rows(b.late(x)), b.expand(table, shape=(b.batch, T, 3)), axis=2)


@case
def rotary_positions(b, x):
    q = b.heads(b.rows(b.late(x)), 2, 4)
    angle = b.mul(b.reshape(b.cast(b.iota(size=T), dtype=x.type.dtype), shape=(T, 1)), b.reshape(b.w(4), shape=(1, 4)))
    one, two = (b.slice(q, axis=3, start=s, stop=s + 2) for s in (0, 2))
    return b.add(b.mul(q, b.cos(angle)), b.mul(b.concat(b.neg(two), one, axis=3), b.sin(angle)))


@case
def frames_between_constants(b, x):
    front, behind = (b.expand(b.w(1, 3, n), shape=(b.batch, 3, n)) for n in (2, 3))
    return b.concat(front, b.late(x), behind, axis=2)


@case
def frames_after_a_number(b, x):
    front = b.expand(b.const(-1.0, "f32"), shape=(b.batch, 3, 2))
    return b.concat(front, b.slice(b.late(x), axis=2, start=0, stop=T - 2), axis=2)


@case
def transposed_convolution(b, x):
    return b.conv_transpose(b.late(x), b.w(3, 2, 5), b.w(2), stride=(2,), pad=((1, 1),), dilation=(1,))


@case
def upsampled(b, x):
    return b.resize(b.late(x), axis=2, scale=2, linear=True)


@pytest.mark.parametrize("captured", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_every_stream_is_as_if_alone(name, captured):
    whole, x = built(name, 1), signals(LENGTHS)
    step = step_of(built(name, captured), 3)
    assert all(not isinstance(s, str) and 3 in v.type.sizes for v in step.main.states.values() for s in v.type.sizes)
    together = run_stream(step.main, {"x": x}, lengths=LENGTHS)
    for i, n in enumerate(LENGTHS):
        (want,) = interpret(whole.main, {"x": x[i : i + 1, :, :n]})
        assert_alike(together[i][0], want)


@pytest.mark.parametrize("name", CASES)
def test_one_stream_begins_again(name):
    """After three steps the second stream begins anew, from the initial values of its states; the others go on."""
    chunk, again = 4, 3
    graph = step_of(built(name, 1), 3, chunk).main
    x, fresh = signals((40,) * 3, 1), signals((40,) * 3, 2)
    mixed = x.copy()
    mixed[1, :, again * chunk :] = fresh[1, :, : (10 - again) * chunk]
    started, states, undisturbed, anew = (initial_states(graph) for _ in range(4))
    for k in range(8):
        if k == again:
            for n, array in states.items():
                rows = len(array) // 3
                states[n] = np.concatenate([array[:rows], started[n][rows : 2 * rows], array[2 * rows :]])
        got, want = one_step(graph, mixed, states, k), one_step(graph, x, undisturbed, k)
        for i in (0, 2):
            assert_real(graph, got, want, i)
        if k >= again:
            assert_real(graph, got, one_step(graph, fresh, anew, k - again), 1)


def one_step(graph, x, states, k):
    feeds = {"x": x[:, :, 4 * k : 4 * k + 4], "n_valid": np.full(3, 4, np.int32)}
    return interpret(graph, {v.name: feeds[v.name] for v in graph.inputs}, states)


def assert_real(graph, got, want, i):
    """The real frames of stream i are alike; those before its start may be anything."""
    axis = next(a for a, d in enumerate(graph.outputs[0].type.shape) if d.time is not None)
    frames = slice(None) if len(want) == 1 else slice(*want[1][i])
    for a, b in zip(got[1:], want[1:], strict=True):
        assert np.array_equal(a[i], b[i])
    assert_alike(*(np.moveaxis(y[0][i], axis - 1, 0)[frames] for y in (got, want)))


@pytest.mark.parametrize("captured", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_the_graph_with_a_free_batch_is_the_graph(name, captured):
    before = built(name, captured)
    after = clone(before)
    make("free-batch{must=True}").run(after.main, Context())
    verify(after)
    assert str(after.main.inputs[0].type.sizes[0]) == "batch"
    feeds = feeds_of(before, 17)
    feeds["x"] = feeds["x"].astype(np.float64)
    assert all(np.array_equal(a, b) for a, b in zip(evaluate64(after, feeds), evaluate64(before, feeds), strict=True))
    five = np.concatenate([feeds["x"]] * 5)[:5]
    for i, row in enumerate(five):
        (alone,) = evaluate64(after, {"x": row[None]})
        assert_alike(evaluate64(after, {"x": five})[0][i : i + 1], alone)


# -- any graph ---------------------------------------------------------------------------------------------------------
def captured_for_one(count):
    """Random graphs for a batch of 1. One builder merges the batch with time, which cannot be followed."""
    cases = map(drawn, plans(4 * count, seed=11, only=lambda name: name != "frames as batch"))
    fixed = (c for c in cases if c.plan.dtype == "f64" and not any("batch" in str(v.type) for v in c.graph.inputs))
    return list(islice(fixed, count))


def test_any_graph_captured_for_one_stream_takes_two():
    for drawing in captured_for_one(16):
        step = stream_proof.step_of(drawing, batch=2)
        lengths = [min(drawing.most, drawing.least + n) for n in (3, 3 * drawing.step + 5)]
        fed = [drawing.feeds(n, salt) for salt, n in enumerate(lengths)]
        together = run_stream(step.main, {v.name: side_by_side(v, fed) for v in drawing.graph.inputs}, lengths=lengths)
        for got, feeds in zip(together, fed, strict=True):
            for a, b in zip(got, interpret(drawing.graph, feeds), strict=True):
                assert stream_proof.distance(a, b) <= TOLERANCE, drawing


def side_by_side(v, fed):
    """The rows of several feeds, the shorter ones with NaN behind them; inputs without time are the same for all."""
    arrays, axis = [f[v.name] for f in fed], time_axis(v)
    if axis is None:
        return arrays[0]
    most = max(a.shape[axis] for a in arrays)
    behind = lambda a: [(0, most - a.shape[axis] if i == axis else 0) for i in range(a.ndim)]
    return np.concatenate([np.pad(a, behind(a), constant_values=np.nan) for a in arrays])


@pytest.mark.slow
def test_digits_two_at_a_time():
    """The digits model, captured for one recording, in a batch of two: both of its kinds of convolution."""
    from speechc.compiler.driver import read_subject
    from speechc.compiler.plan import NORMALIZE, OPTIMIZE

    subject = read_subject(Path(__file__).parent.parent / "examples" / "digits" / "model.pt")
    x = 0.1 * np.random.default_rng(0).standard_normal((2, 20001))
    for convolutions in ((), ("conv-context{mode='chunk', chunk=5120}",)):
        whole = clone(subject.module)
        limited = "limit-attention{chunk=5120, left=10240}"
        for text in (*NORMALIZE, limited, *convolutions, *OPTIMIZE):
            make(text).run(whole.main, Context())
            whole.main.sweep()
        whole = retyped(whole)
        step = step_of(whole, 2, chunk=5120)
        lengths = (9000, 20001)
        for got, row, n in zip(run_stream(step.main, {"audio": x}, lengths=lengths), x, lengths, strict=True):
            assert_alike(got[0], interpret(whole.main, {"audio": row[None, :n]})[0])


# -- what cannot be followed -------------------------------------------------------------------------------------------
def mean_of_the_batch(b, x):
    return b.sub(x, b.mean(x, axes=(0,), keepdims=True))


def merged_with_time(b, x):
    return b.linear(b.reshape(b.rows(x), shape=(b.batch * T, 3)), b.w(2, 3))


def first_row(b, x):
    return b.slice(x, axis=0, start=0, stop=1)


def carries_of_each_row(b, x):
    return recurrent(b, "gru", x, lambda n: b.w(b.batch, n))


@pytest.mark.parametrize("build, batch, kind", [(mean_of_the_batch, 1, "mean"), (merged_with_time, 1, "reshape"),
                                                (first_row, 3, "slice"), (carries_of_each_row, 3, "gru")])  # fmt: skip
def test_a_batch_that_cannot_be_followed_is_refused(build, batch, kind):
    b = Net(batch)
    b.graph.output(build(b, b.x), "y")
    with pytest.raises(UnsupportedError, match=f"followed through {kind}") as error:
        step_of(b.module, 3)
    assert error.value.code == "SC214" and "net.layer" in error.value.where[0] and error.value.hints
    context = Context()
    text = str(b.module)
    make("free-batch").run(b.module.main, context)
    assert str(b.module) == text and context.remarks[0].kind == "missed"

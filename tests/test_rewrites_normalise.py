"""Statistics over the utterance made fixed, running or windowed: against loops over frames, at several lengths."""

import numpy as np
import pytest
from rewriting import LENGTHS, assert_close, assert_streams, built, feeds_of, rewritten, support
from speechc.compiler.manager import evaluate64
from speechc.ir.errors import UnsupportedError, UsageError
from speechc.ir.interpreter import run

WINDOW = 5
MODES = {"cumulative": "normalise", "window": f"normalise{{mode='window', frames={WINDOW}}}"}
W = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


def cmvn(time, unbiased=False, eps=1e-3, flat=False):
    """(x - mean) / (std + eps) over `time`, as PyTorch's mean and std come out of capture."""

    def build(b, x):
        keep = tuple(1 if i == time else s for i, s in enumerate(x.type.sizes))
        mean = b.mean(x, axes=(time,), keepdims=not flat)
        mean = b.reshape(mean, shape=keep) if flat else mean
        off = b.sub(x, mean)
        square = b.pow(off, b.const(2.0, "f32")) if flat else b.mul(off, off)
        if unbiased:
            less = b.sub(b.cast(b.size(of=x.type.sizes[time]), dtype="f32"), b.const(1.0, "f32"))
            variance = b.div(b.sum(square, axes=(time,), keepdims=True), less)
        else:
            variance = b.mean(square, axes=(time,), keepdims=True)
        return b.div(off, b.add(b.sqrt(variance), b.const(eps, "f32")))

    return build


def excitation(kind, conv=False, keepdims=False):
    """x · sigmoid(w statistic), x [B, C, T] (Hu et al. 2018)."""

    def build(b, x):
        squeezed = b.emit(kind, (x,), {"axes": (2,), "keepdims": keepdims or conv})
        if conv:
            gate = b.sigmoid(b.conv(squeezed, b.weight("w", W[..., None])))
        else:
            squeezed = b.reshape(squeezed, shape=x.type.sizes[:2]) if keepdims else squeezed
            gate = b.reshape(b.sigmoid(b.linear(squeezed, b.weight("w", W))), shape=(*x.type.sizes[:2], 1))
        return b.mul(x, gate)

    return build


def excited(statistic):
    def gated(x):
        x = x[0]
        return (x[:, -1] / (1 + np.exp(-(W.astype(np.float64) @ statistic(x)))))[None]

    return gated


def standardised(unbiased=False, eps=1e-3):
    def last(x):
        deviation = np.sqrt(np.maximum(x.var(-1), 1e-10))
        if unbiased:
            n = x.shape[-1]
            deviation = np.sqrt(np.maximum(x.var(-1), 1e-10) * n / max(n - 1, 1))
        return (x[..., -1] - x.mean(-1)) / (deviation + eps)

    return last


def grouped(groups):
    """The last frame of group norm over [1, 4, *S, T]."""

    def last(x):
        parts = x.reshape(1, groups, -1, x.shape[-1])
        mean = parts.mean((2, 3), keepdims=True)
        deviation = np.sqrt(np.maximum(parts.var((2, 3), keepdims=True), 1e-10) + 1e-5)
        y = ((parts - mean) / deviation).reshape(x.shape)[..., -1]
        scale = (1 + np.arange(4)).reshape(1, 4, *[1] * (y.ndim - 2))
        return y * scale + 0.5

    return last


def group_norm(groups):
    scale, shift = (1 + np.arange(4)).astype(np.float32), np.full(4, 0.5, np.float32)
    return lambda b, x: b.group_norm(x, b.weight("scale", scale), b.weight("shift", shift), groups=groups)


def concatenated(b, x):
    mean = b.expand(b.mean(x, axes=(2,), keepdims=True), shape=x.type.sizes)
    return b.concat(x, mean, axis=1)


def louder(b, x):
    """Whisper's floor: eight below the loudest, here 0.8."""
    top = b.max(x, axes=(0, 1, 2), keepdims=False)
    return b.maximum(x, b.sub(top, b.const(0.8, "f32")))


# name: (shape, axis of time, how it is built, its last frame from all frames that it may see, time last)
CASES = {
    "cmvn": ((1, 4, "T"), 2, cmvn(2), standardised()),
    "cmvn, time in the middle": ((2, "T", 3), 1, cmvn(1), standardised()),
    "cmvn, unbiased": ((1, 4, "T"), 2, cmvn(2, unbiased=True), standardised(True)),
    "cmvn, mean without its axis": ((1, 4, "T"), 2, cmvn(2, flat=True), standardised()),
    "cmvn, two dimensions": (("T", 3), 0, cmvn(0), standardised()),
    "instance norm": ((1, 4, "T"), 2, group_norm(4), grouped(4)),
    "group norm": ((1, 4, "T"), 2, group_norm(2), grouped(2)),
    "group norm of all": ((1, 4, 3, "T"), 3, group_norm(1), grouped(1)),
    "group norm, time in the middle": ((1, 4, "T", 3), 2, group_norm(2), grouped(2)),
    "excitation": ((1, 4, "T"), 2, excitation("mean"), excited(lambda x: x.mean(-1))),
    "excitation, squeezed": ((1, 4, "T"), 2, excitation("mean", keepdims=True), excited(lambda x: x.mean(-1))),
    "excitation, conv": ((1, 4, "T"), 2, excitation("max", conv=True), excited(lambda x: x.max(-1))),
    "excitation, sum": ((1, 4, "T"), 2, excitation("sum"), excited(lambda x: x.sum(-1))),
    "excitation, min": ((1, 4, "T"), 2, excitation("min"), excited(lambda x: x.min(-1))),
    "mean beside": ((1, 4, "T"), 2, concatenated, lambda x: np.concatenate([x[..., -1], x.mean(-1)], 1)),
    "floor": ((1, 4, "T"), 2, louder, lambda x: np.maximum(x[..., -1], x.max() - np.float64(np.float32(0.8)))),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_statistics_run(name, mode):
    shape, axis, build, last = CASES[name]
    module = built(shape, build)
    after, remarks = rewritten(module, MODES[mode])
    assert {r.kind for r in remarks} == {"applied"}, remarks
    for length in LENGTHS:
        feeds = feeds_of(module, length)
        x = np.moveaxis(feeds["x"].astype(np.float64), axis, -1)
        seen = [x[..., (0 if mode == "cumulative" else max(0, t + 1 - WINDOW)) : t + 1] for t in range(length)]
        want = np.stack([last(s) for s in seen], axis)
        got = evaluate64(after, feeds)[0]
        assert_close(got, want, 1e-7)  # the literals 0.001 and 1e-10 are stored in float32
        if mode == "cumulative" and length > 1:
            whole = np.take(evaluate64(module, feeds)[0], -1, axis)
            assert_close(np.take(got, -1, axis), whole, 1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_statistics_stream(name, mode):
    shape, _, build, _ = CASES[name]
    assert_streams(built(shape, build), MODES[mode], chunk=4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["cmvn", "group norm, time in the middle", "excitation"])
def test_statistics_see_no_future(name, mode):
    shape, axis, build, _ = CASES[name]
    module = built(shape, build)
    after, _ = rewritten(module, MODES[mode])
    sees, whole = support(after, feeds_of(module, 12), "x", axis), support(module, feeds_of(module, 12), "x", axis)
    back = np.subtract.outer(np.arange(12), np.arange(12))
    assert whole.all()
    assert not sees[back < 0].any()
    assert (mode == "cumulative") == sees[back >= WINDOW].any() and sees[(back > 0) & (back < WINDOW)].all()


def test_a_running_variance_loses_no_digits():
    """Values of 10,000 ± 1 in float32: squares of 10⁸ less squares of 10⁸ would leave nothing."""
    module = built((1, 4, "T"), cmvn(2))
    after, _ = rewritten(module, "normalise")
    x = (1e4 + np.random.default_rng(0).standard_normal((1, 4, 500))).astype(np.float32)
    got, want = run(after.main, {"x": x})[0], evaluate64(after, {"x": x})[0]
    assert np.abs(got - want)[..., 50:].max() < 0.05


@pytest.mark.parametrize("name", ["cmvn", "cmvn, unbiased", "group norm", "excitation"])
def test_statistics_are_fixed(name):
    shape, axis, build, _ = CASES[name]
    module = built(shape, build)
    samples = [feeds_of(module, n, seed=n) for n in (9, 20)]
    after, _ = rewritten(module, "normalise{mode='fixed'}", samples=samples)
    assert not any(op.kind in ("mean", "sum") and 2 in op.attrs["axes"] for op in after.main.ops)
    for length in LENGTHS:
        x = feeds_of(module, length)["x"].astype(np.float64)
        arrays = [s["x"].astype(np.float64) for s in samples]
        if name == "excitation":
            mean = np.mean([a.mean(2) for a in arrays], 0)
            want = x / (1 + np.exp(-(W.astype(np.float64) @ mean[0])))[None, :, None]
        elif name == "group norm":
            parts = [a.reshape(1, 2, -1) for a in arrays]
            mean, variance = (np.mean([f(p, 2) for p in parts], 0) for f in (np.mean, np.var))
            by = lambda v: np.repeat(v, 2, 1)[..., None]
            want = (x - by(mean)) / np.sqrt(by(variance) + 1e-5) * (1 + np.arange(4))[:, None] + 0.5
        else:
            mean = np.mean([a.mean(2, keepdims=True) for a in arrays], 0)
            variance = np.mean([a.var(2, keepdims=True, ddof=int("unbiased" in name)) for a in arrays], 0)
            want = (x - mean) / (np.sqrt(variance) + 1e-3)
        assert_close(evaluate64(after, {"x": x.astype(np.float32)})[0], want, 1e-5)


def test_fixed_wants_samples():
    with pytest.raises(UnsupportedError, match="SC212") as error:
        rewritten(built((1, 4, "T"), cmvn(2)), "normalise{mode='fixed'}")
    assert "net.layer" in str(error.value) and "--calibrate" in str(error.value)
    with pytest.raises(UsageError, match="SC020"):
        rewritten(built((1, 4, "T"), cmvn(2)), "normalise{mode='always'}")


STUCK = {
    "lstm": lambda b, x: b.mul(x, b.lstm(b.mean(x, axes=(2,), keepdims=True), *recurrent(b))[0]),
    "joins": lambda b, x: b.matmul(b.reshape(b.mean(x, axes=(2,)), shape=(1, 1, 4)), x),
    "output": lambda b, x: b.mean(x, axes=(2,)),
}


def recurrent(b):
    zero = lambda *shape: b.weight("z", np.zeros(shape, np.float32))
    return zero(1, 1), zero(1, 1), zero(4, 1), zero(4, 1), None


@pytest.mark.parametrize("name", STUCK)
def test_what_is_left_alone_says_why(name):
    module = built((1, 4, "T"), STUCK[name])
    after, remarks = rewritten(module, "normalise")
    assert str(after) == str(module)
    assert [r.kind for r in remarks] == ["missed"] and name in remarks[0].message


def test_attention_is_not_touched():
    def spelled(b, x):
        scores = b.matmul(x, b.transpose(x, perm=(0, 2, 1)))
        scores = b.exp(b.sub(scores, b.max(scores, axes=(2,), keepdims=True)))
        return b.matmul(b.div(scores, b.sum(scores, axes=(2,), keepdims=True)), x)

    module = built((1, "T", 4), spelled)
    assert str(rewritten(module, "normalise")[0]) == str(module)


@pytest.mark.parametrize("keepdims", [False, True])
def test_an_output_gets_time_when_asked(keepdims):
    """A classifier of the utterance gives one decision a frame."""

    def build(b, x):
        pooled = b.mean(x, axes=(2, 3), keepdims=keepdims)
        pooled = b.reshape(pooled, shape=(1, 4)) if keepdims else pooled
        return b.softmax(b.linear(pooled, b.weight("w", W)), axis=1)

    module = built((1, 4, "T", 3), build)
    after, _ = rewritten(module, "normalise{outputs=True}")
    assert str(after.main.outputs[0].type) == "f32[1, T@audio, 4]"
    feeds = feeds_of(module, 9)
    got = evaluate64(after, feeds)[0]
    for t in range(9):
        assert_close(got[:, t], evaluate64(module, {"x": feeds["x"][:, :, : t + 1]})[0])

"""Statistics over the utterance made fixed, running or windowed: against loops over frames, at several lengths."""

import numpy as np
import pytest
from rewriting import LENGTHS, assert_close, assert_streams, built, feeds_of, rewritten, support
from speechc.compiler.manager import evaluate64
from speechc.compiler.plan import NORMALIZE, OPTIMIZE
from speechc.compiler.step_runner import run_stream
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
    def gated(x, window):
        x = seen_by(x, window)[0]
        return (x[:, -1] / (1 + np.exp(-(W.astype(np.float64) @ statistic(x)))))[None]

    return gated


def seen_by(x, window):
    return x if window is None else x[..., -window:]


def variance_of(x, window):
    """The variance over the axes from 2 on, time last: of all, or the window's mean of a frame's deviation, squared,
    from the mean of the window that ends there."""
    if window is None:
        return x.var(tuple(range(2, x.ndim)))
    others = tuple(range(2, x.ndim - 1))
    own, inner = (x.mean(others), x.var(others)) if others else (x, 0.0)
    means = np.stack([own[..., max(0, t + 1 - window) : t + 1].mean(-1) for t in range(x.shape[-1])], -1)
    return ((own - means) ** 2 + inner)[..., -window:].mean(-1)


def standardised(unbiased=False, eps=1e-3):
    def last(x, window):
        seen = seen_by(x, window)
        lead = (1,) * (3 - x.ndim)
        variance = np.maximum(variance_of(x.reshape(*lead, *x.shape), window).reshape(x.shape[:-1]), 1e-10)
        if unbiased:
            variance = variance * seen.shape[-1] / max(seen.shape[-1] - 1, 1)
        return (x[..., -1] - seen.mean(-1)) / (np.sqrt(variance) + eps)

    return last


def grouped(groups):
    """The last frame of group norm over [1, 4, *S, T]."""

    def last(x, window):
        parts = x.reshape(1, groups, -1, x.shape[-1])
        mean = seen_by(parts, window).mean((2, 3))
        deviation = np.sqrt(np.maximum(variance_of(parts, window), 1e-10) + 1e-5)
        y = ((parts[..., -1] - mean[..., None]) / deviation[..., None]).reshape(x.shape[:-1])
        scale = (1 + np.arange(4)).reshape(1, 4, *[1] * (y.ndim - 2))
        return y * scale + 0.5

    return last


def group_norm(groups):
    scale, shift = (1 + np.arange(4)).astype(np.float32), np.full(4, 0.5, np.float32)
    return lambda b, x: b.group_norm(x, b.weight("scale", scale), b.weight("shift", shift), groups=groups)


def concatenated(b, x):
    mean = b.expand(b.mean(x, axes=(2,), keepdims=True), shape=x.type.sizes)
    return b.concat(x, mean, axis=1)


def beside(x, window):
    return np.concatenate([x[..., -1], seen_by(x, window).mean(-1)], 1)


def louder(b, x):
    """Whisper's floor: eight below the loudest, here 0.8."""
    top = b.max(x, axes=(0, 1, 2), keepdims=False)
    return b.maximum(x, b.sub(top, b.const(0.8, "f32")))


def floored(x, window):
    return np.maximum(x[..., -1], seen_by(x, window).max() - np.float64(np.float32(0.8)))


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
    "mean beside": ((1, 4, "T"), 2, concatenated, beside),
    "floor": ((1, 4, "T"), 2, louder, floored),
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
        window = None if mode == "cumulative" else WINDOW
        want = np.stack([last(x[..., : t + 1], window) for t in range(length)], axis)
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
    assert sees[(back > 0) & (back < WINDOW)].all()
    # The means that a windowed variance is about have windows of their own.
    reach = WINDOW if name == "excitation" else 2 * WINDOW - 1
    assert (mode == "cumulative") == sees[back >= reach].any()


def test_a_running_variance_loses_no_digits():
    """Values of 10,000 ± 1 in float32: squares of 10⁸ less squares of 10⁸ would leave nothing."""
    module = built((1, 4, "T"), cmvn(2))
    after, _ = rewritten(module, "normalise")
    x = (1e4 + np.random.default_rng(0).standard_normal((1, 4, 500))).astype(np.float32)
    got, want = run(after.main, {"x": x})[0], evaluate64(after, {"x": x})[0]
    assert np.abs(got - want)[..., 50:].max() < 0.05


def far(module, length=200):
    """Inputs whose mean is larger than their deviation, as log mel energies are."""
    return {"x": (10 + 3 * feeds_of(module, length)["x"]).astype(np.float32)}


@pytest.mark.parametrize("mode", ["normalise", "normalise{mode='window', frames=30}"])
@pytest.mark.parametrize("name", ["cmvn", "cmvn, unbiased", "cmvn, time in the middle", "instance norm", "group norm"])
def test_float32_steps_give_the_whole(name, mode):
    shape, _, build, _ = CASES[name]
    whole, _ = rewritten(built(shape, build), *NORMALIZE, mode, *OPTIMIZE)
    step, _ = rewritten(whole, "streaming{chunk=8}")
    feeds = far(whole)
    got, want = run_stream(step.main, feeds)[0], run(whole.main, feeds)[0]
    assert np.abs(got - want).max() <= 1e-4  # the bound that a compilation holds steps to
    assert np.abs(want - evaluate64(whole, feeds)[0]).max() <= 1e-3  # float32 of values of 10, over small deviations


POOLS = {
    "cmvn": cmvn(1, unbiased=True, eps=0.0),
    "mean": lambda b, x: b.sub(x, b.mean(x, axes=(1,), keepdims=True)),
    "max": lambda b, x: b.sub(x, b.max(x, axes=(1,), keepdims=True)),
}


@pytest.mark.parametrize("name", POOLS)
def test_windows_slide_channels_first(name):
    """The layout that every target has, or makes its own of."""
    after, _ = rewritten(built((1, "T", 8), POOLS[name]), MODES["window"])
    pools = [op for op in after.main.ops if op.kind in ("avg_pool", "max_pool")]
    assert pools and not any(op.attrs["channel_last"] for op in pools)


@pytest.mark.parametrize("target", ["onnx", "tflite"])
@pytest.mark.parametrize("name", ["cmvn", "mean", "max"])
@pytest.mark.slow
def test_windows_compile(name, target, tmp_path):
    """Files that stream a window of the utterance's statistics give what the whole gives."""
    torch = pytest.importorskip("torch")
    pytest.importorskip({"onnx": "onnxruntime", "tflite": "ai_edge_litert"}[target])
    import speechc

    ways = {
        "cmvn": lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True),
        "mean": lambda x: x - x.mean(1, keepdim=True),
        "max": lambda x: x - x.amax(1, keepdim=True),
    }

    class Net(torch.nn.Module):
        def forward(self, x):
            return ways[name](x)

    x = torch.from_numpy(10 + 3 * np.random.default_rng(0).standard_normal((1, 200, 8)).astype(np.float32))
    said = {"stream": "80ms", "frame_shift": "10ms", "normalise": "window:3s", "output": tmp_path / f"net.{target}"}
    stream = speechc.compile(Net().eval(), {"x": x}, target=target, **said).stream()
    x = far(built((1, "T", 8), POOLS[name]), 400)["x"]  # longer than the window
    got = [stream.push(x[:, i : i + 8])[0] for i in range(0, 400, 8)] + [stream.flush()[0]]
    whole, _ = rewritten(built((1, "T", 8), POOLS[name]), "normalise{mode='window', frames=300}")
    want = run(whole.main, {"x": x})[0]
    assert np.abs(np.concatenate(got, 1) - want).max() <= 1e-4


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


ANSWERS = {
    "mean": lambda b, x: b.linear(b.mean(x, axes=(2,)), b.weight("w", W)),
    "max": lambda b, x: b.linear(b.max(x, axes=(2,)), b.weight("w", W)),
    "repeated": lambda b, x: b.expand(b.mean(x, axes=(2,), keepdims=True), shape=x.type.sizes),
    "mean and variance": lambda b, x: b.concat(
        b.mean(x, axes=(2,), keepdims=True),
        b.mean(b.pow(b.sub(x, b.mean(x, axes=(2,), keepdims=True)), b.const(2.0, "f32")), axes=(2,), keepdims=True),
        axis=1,
    ),
}


@pytest.mark.parametrize("outputs", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_not_fixed(name, outputs):
    """An output that follows from a constant alone would say nothing of the input: streaming refuses the statistic."""
    module = built((1, 4, "T"), ANSWERS[name])
    samples = [feeds_of(module, n, seed=n) for n in (9, 20)]
    after, remarks = rewritten(module, f"normalise{{mode='fixed', outputs={outputs}}}", samples=samples)
    missed = [r for r in remarks if r.kind == "missed"]
    assert missed and all("would be a constant" in r.message for r in missed)
    feeds = [feeds_of(module, 9, seed=n) for n in (1, 2)]
    one, two = (evaluate64(after, f)[0] for f in feeds)
    assert np.abs(one - two).max() > 0.01
    with pytest.raises(UnsupportedError, match="SC203"):
        rewritten(after, "streaming{chunk=4}")


def test_what_meets_the_stream_is_fixed_before_an_answer():
    """The statistics of the norm become constants, the pool over its result stays."""
    module = built((1, 4, "T"), lambda b, x: b.mean(b.tanh(cmvn(2)(b, x)), axes=(2,)))
    samples = [feeds_of(module, 9)]
    after, remarks = rewritten(module, "normalise{mode='fixed'}", samples=samples)
    assert {r.kind for r in remarks} == {"applied", "missed"}
    assert [op.kind for op in after.main.ops if op.kind in ("mean", "tanh")] == ["tanh", "mean"]


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

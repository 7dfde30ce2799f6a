"""Whole models, chunk by chunk: the step graph and the emitted file give what the whole utterance gives."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from models import Case
from models import case as make_case
from models.streaming import DIGITS, STREAMED, conformer_chunked
from speechc.compiler import driver
from speechc.compiler.api import Artifact
from speechc.compiler.executor import Executor
from speechc.compiler.manager import Manager
from speechc.compiler.plan import AFTER_STREAMING, NORMALIZE, OPTIMIZE
from speechc.compiler.step_runner import run_stream
from speechc.ir.errors import UnsupportedError
from speechc.ir.graph import Module
from speechc.ir.interpreter import run
from speechc.ir.text import clone, retyped
from speechc.lowering.target import target as find_target
from speechc.passes.base import Context, make

# Of the largest value. Float64: the same sums in another order. Float32: that, through tens of layers.
FLOAT64, FLOAT32 = 1e-9, 1e-4
QUICK = ("tcn_gru",)
NAMES = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in STREAMED]


class Made(NamedTuple):
    """A model captured, and the offline graph that is streamed, rewritten and optimized."""

    case: Case | None
    subject: driver.Subject
    whole: Module

    def feeds(self, length: int, dtype=np.float32) -> dict[str, np.ndarray]:
        """Inputs of one length."""
        if self.case is not None:
            return {name: a.astype(dtype) for name, a in self.case.make_inputs(length).items()}
        return {"audio": 0.1 * np.random.default_rng(length).standard_normal((1, length)).astype(dtype)}


@lru_cache
def made(name: str) -> Made:
    """Captured once for all tests."""
    wanted = STREAMED[name]
    case = wanted.build()
    read = driver.read_subject
    subject = read(DIGITS) if case is None else read(case.module, case.inputs, case.time_axis)
    return Made(case, subject, after(subject.module, NORMALIZE, wanted.rewrites, OPTIMIZE))


def after(module: Module, *stages: tuple[str, ...]) -> Module:
    """A verified copy after these passes."""
    module = clone(module)
    Manager(Context(Executor())).run(module, [make(text) for texts in stages for text in texts])
    return module


def step_of(module: Module, chunk: int, batch: int = 1) -> Module:
    return after(module, (f"streaming{{chunk={chunk}, batch={batch}}}",), AFTER_STREAMING)


def assert_close(got, want, tolerance: float) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.isfinite(a).all() and np.abs(a - b).max(initial=0) <= tolerance * np.abs(b).max(initial=0)


def late(step: Module):
    """The delay of the first output, in frames of the input."""
    (time,) = (d.time for d in step.main.outputs[0].type.shape if d.time is not None)
    return time.delay / time.rate


@pytest.mark.parametrize("name", NAMES)
def test_graph(name):
    """Step = whole at every length and at two chunk sizes, the first frame to the last, with NaN behind the end."""
    model, wanted = made(name), STREAMED[name]
    wide = retyped(model.whole)
    expected = {n: run(wide.main, model.feeds(n, np.float64)) for n in wanted.lengths}
    assert min(wanted.lengths) < wanted.chunk
    for chunk in (wanted.chunk, 2 * wanted.chunk):
        step = step_of(wide, chunk)
        for n, outputs in expected.items():
            assert_close(run_stream(step.main, model.feeds(n, np.float64)), outputs, FLOAT64)
        if chunk == wanted.chunk:
            assert late(step) == wanted.late
    longest = model.feeds(wanted.lengths[-1])
    step = step_of(model.whole, wanted.chunk)
    assert_close(run_stream(step.main, longest), run(model.whole.main, longest), FLOAT32)


@pytest.mark.parametrize("name", NAMES)
def test_captured(name):
    """Before any rewrite the graph is the model, at lengths that were not traced."""
    model = made(name)
    plain = after(model.subject.module, NORMALIZE, OPTIMIZE)
    for n in STREAMED[name].lengths:
        feeds = model.feeds(n)
        assert_close(run(plain.main, feeds), model.subject.reference(feeds), FLOAT32)


@pytest.mark.parametrize("target", ["onnx", "tflite"])
@pytest.mark.parametrize("name", NAMES)
def test_file(name, target, tmp_path):
    """The emitted file, pushed pieces of any size, gives what the whole graph gives; again after a reset."""
    model, wanted = made(name), STREAMED[name]
    stream = artifact(model, name, target, tmp_path).stream()
    for n in (*wanted.lengths, wanted.lengths[0]):
        feeds = model.feeds(n)
        parts = [stream.push(*piece) for piece in pieces(feeds, model.whole, wanted.chunk)]
        parts.append(stream.flush())
        stream.reset()
        axes = [time_axis(v) for v in model.whole.main.outputs]
        got = [np.concatenate(p, axis) for p, axis in zip(zip(*parts, strict=True), axes, strict=True)]
        assert_close(got, run(model.whole.main, feeds), FLOAT32)


def artifact(model: Made, name: str, target: str, folder: Path) -> Artifact:
    """The model compiled by the passes of its plan; `build` proves the file on a sample of its own."""
    wanted = STREAMED[name]
    texts = (*NORMALIZE, *wanted.rewrites, *OPTIMIZE, f"streaming{{chunk={wanted.chunk}}}", *AFTER_STREAMING)
    s = model.subject
    subject = driver.Subject(clone(s.module), s.reference, s.sample, s.name)
    passes = [*texts, *find_target(target).legalize_for("float32")]
    report = driver.build(subject, driver.Settings(target, output=folder, passes=passes))
    step = report.streamed.as_dict()
    assert step["state_bytes"] == sum(np.prod(p.shape) * 4 for p in driver.manifest_of(report.artefact).states)
    return Artifact(report.artefact, driver.manifest_of(report.artefact))


def time_axis(v) -> int:
    (axis,) = [i for i, d in enumerate(v.type.shape) if d.time is not None]
    return axis


def pieces(feeds, whole: Module, chunk: int):
    """The only input of a model cut at random places, a few empty pieces among them."""
    ((name, array),) = feeds.items()
    axis = time_axis(next(v for v in whole.main.inputs if v.name == name))
    random, total = np.random.default_rng(chunk), array.shape[axis]
    at = np.sort(random.integers(0, total + 1, 2 + 2 * total // chunk))
    return [(piece,) for piece in np.split(array, at, axis)]


# -- single models ---------------------------------------------------------------------------------------------------
def test_no_future_costs_nothing():
    """Causal convolutions, recurrences and pointwise ops: no clock, no mask, no flush."""
    step = step_of(made("tcn_gru").whole, 8).main
    assert [v.name for v in step.inputs] == ["x"] and step.output_names == made("tcn_gru").whole.main.output_names
    assert not {op.kind for op in step.ops} & {"where", "less", "less_equal", "logical_and", "retime"}
    sizes = sorted(int(np.prod(v.type.sizes)) for v in step.states.values())
    assert sizes == sorted([16 * 2 * 2**i for i in range(4)] + [16, 16])  # 2 · dilation frames; carries


@pytest.mark.slow
def test_limited_attention_is_the_masked_model():
    """The rewrite does to a graph what the mask in the model does, where the model has one."""
    import torch

    model = made("conformer")
    masked = conformer_chunked().module
    masked.load_state_dict(model.case.module.state_dict())
    for n in STREAMED["conformer"].lengths:
        feeds = model.feeds(n)
        with torch.no_grad():
            expected = masked(torch.from_numpy(feeds["features"])).numpy()
        assert_close(run(model.whole.main, feeds), [expected], FLOAT32)


@pytest.mark.slow
def test_mean_so_far_ends_as_the_mean():
    """The last scores of the keyword spotter are those of the whole utterance."""
    model = made("keyword_spotter")
    for n in STREAMED["keyword_spotter"].lengths:
        feeds = model.feeds(n)
        (y,) = run_stream(step_of(model.whole, 8).main, feeds)
        assert_close([y[:, -1]], model.subject.reference(feeds), FLOAT32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, chunk",
    [("conformer", 4), ("conformer", 12), ("parakeet", 8), ("parakeet", 24), ("wav2vec2_conformer", 20),
     ("moonshine", 384), ("deepspeech", 2), ("unet", 8), ("vocoder", 1), ("vocoder", 3)],
)  # fmt: skip
def test_small_steps(name, chunk):
    """Steps of one frame of the slowest stream; steps that do not divide attention's chunks. It keeps its inputs."""
    model = made(name)
    wide = retyped(model.whole)
    step = after(wide, (f"streaming{{chunk={chunk}, cache='memory'}}",), AFTER_STREAMING)
    for n in STREAMED[name].lengths[:2]:
        feeds = model.feeds(n, np.float64)
        assert_close(run_stream(step.main, feeds), run(wide.main, feeds), FLOAT64)


@pytest.mark.slow
@pytest.mark.parametrize("convolutions", [("conv-context{mode='chunk', chunk=2560}",), ()])
def test_digits_at_half_the_chunk(convolutions):
    """A step of 320 ms may be shorter than the chunks of attention, 640 ms: convolutions end at it, or are late."""
    model = made("digits")
    feeds = model.feeds(16001, np.float64)
    attention, _ = STREAMED["digits"].rewrites
    wide = retyped(after(model.subject.module, NORMALIZE, (attention, *convolutions), OPTIMIZE))
    step = step_of(wide, 2560)
    assert_close(run_stream(step.main, feeds), run(wide.main, feeds), FLOAT64)
    with pytest.raises(UnsupportedError, match=r"SC200[\s\S]*multiple of 5120 input frames"):
        step_of(model.whole, 2560)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite"])
@pytest.mark.parametrize("name", ["tcn_gru", "deepspeech", "unet", "vocoder"])
def test_int8(name, target):
    """Fixed scales: the step graph gives the very codes of the whole; next to sums in float, all but 1 in 10,000."""
    model, wanted = made(name), STREAMED[name]
    whole, samples = clone(model.whole), [model.feeds(n) for n in wanted.lengths[1:]]
    passes = [make(text) for text in find_target(target).compress("int8", True)]
    Manager(Context(Executor(), samples)).run(whole, passes)
    assert any(op.kind == "quantize" for op in whole.main.ops)
    step, away = step_of(whole, wanted.chunk), []
    for n in wanted.lengths:
        feeds = model.feeds(n)
        for a, b in zip(run_stream(step.main, feeds), run(whole.main, feeds), strict=True):
            assert a.shape == b.shape
            away.append(np.abs(a - b).ravel() / np.abs(b).max())
    found = np.concatenate(away)
    assert not found.any() if name == "vocoder" else np.mean(found > 1e-5) <= 1e-4


# The chunks of a backward layer are its rows already.
@pytest.mark.parametrize("name", [n for n in NAMES if n.values[0] != "deepspeech_bidirectional"])
def test_batch(name):
    """Two streams in one step, of a model captured for one: each as long as it is, and as if it were alone."""
    model, wanted = made(name), STREAMED[name]
    freed = after(model.subject.module, NORMALIZE, ("free-batch{must=True}",), wanted.rewrites, OPTIMIZE)
    step, whole = step_of(retyped(freed), wanted.chunk, batch=2), retyped(model.whole)
    one, two = (model.feeds(n, np.float64) for n in wanted.lengths[:2])
    ((port, short),), axis = one.items(), time_axis(model.whole.main.inputs[0])
    rest = [n - m if i == axis else m for i, (m, n) in enumerate(zip(short.shape, two[port].shape))]
    rows = np.concatenate([np.concatenate([short, np.full(rest, np.nan)], axis), two[port]])
    found = run_stream(step.main, {port: rows}, lengths=wanted.lengths[:2])
    for feeds, got in zip((one, two), found, strict=True):
        assert_close(got, run(whole.main, feeds), FLOAT64)


def test_learned_positions_end_with_their_table(tmp_path):
    """A table of 50 positions ends a stream: its last frames are right, and more are refused."""
    import torch
    from torch import nn

    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(4, 4, 7, stride=2, padding=3)
            self.places = nn.Embedding(50, 4)

        def forward(self, x):
            y = self.conv(x).transpose(1, 2)
            return y + self.places(torch.arange(y.shape[1]) + 2)

    torch.manual_seed(0)
    case = make_case(Placed(), {"x": (1, 4, "T")}, 2, 20)
    subject = driver.read_subject(case.module, case.inputs, case.time_axis)
    assert subject.module.meta["limits"]["T"][1] == 96  # 48 frames: 2 to 49
    module = after(subject.module, NORMALIZE, OPTIMIZE)
    for n in (3, 57, 96):
        feeds = case.make_inputs(n)
        assert_close(run_stream(step_of(module, 16).main, feeds), subject.reference(feeds), FLOAT32)
    streaming = driver.Streaming(stream="16 frames")
    report = driver.build(subject, driver.Settings("onnx", output=tmp_path, streaming=streaming))
    stream = Artifact(report.artefact, driver.manifest_of(report.artefact)).stream()
    (early,), (rest,) = stream.push(feeds["x"]), stream.flush()
    assert_close([np.concatenate([early, rest], 1)], case_reference(case, feeds), FLOAT32)
    stream.reset()
    with pytest.raises(UnsupportedError, match="SC211"):
        stream.push(case.make_inputs(97)["x"])


def case_reference(case: Case, feeds) -> list[np.ndarray]:
    import torch

    with torch.no_grad():
        return [case.module(*map(torch.from_numpy, feeds.values())).numpy()]

"""Streamed int8 files against offline int8 files: bit-equal where all is integers, and a code in 10,000 elsewhere."""

from __future__ import annotations

import os
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import speechc
from models.streaming import DIGITS, STREAMED
from speechc.compiler import check_stream, driver
from speechc.compiler.manager import Manager
from speechc.compiler.step_runner import run_stream
from speechc.compiler.streaming import Streaming
from speechc.ir.errors import NumericalError, UnsupportedError
from speechc.ir.graph import Module
from speechc.ir.interpreter import run
from speechc.ir.text import clone
from speechc.passes.base import Context
from stream_codes import Streamed, Tapped, compared

torch = pytest.importorskip("torch")
F, nn = torch.nn.functional, torch.nn

PACKAGES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert"}
CHUNK, LENGTHS = 8, (5, 37, 101)
ALIKE = 1e-4  # of all codes may go to the other side of a tie, by one quantum
SAID = 40.0  # dB; what the proof of a compilation asks of streamed int8


class Stack(nn.Module):
    """x [1, 16, T] -> [1, 12, T/4]: convolutions, depthwise and strided, a residual, pooling, a linear layer."""

    def __init__(self, causal: bool, size: int = 24):
        super().__init__()
        self.causal = causal
        own = lambda kernel: 0 if causal else kernel // 2
        self.first = nn.Conv1d(16, size, 5, padding=own(5))
        self.depthwise = nn.Conv1d(size, size, 5, dilation=2, padding=2 * own(5), groups=size)
        self.pointwise = nn.Conv1d(size, size, 1)
        self.strided = nn.Conv1d(size, size, 3, stride=2, padding=own(3))
        self.pool = nn.MaxPool1d(2)
        self.mix, self.wide = nn.Linear(size, 12), nn.Conv1d(12, 12, 3, padding=own(3))
        self.last = nn.Conv1d(12, 12, 3, padding=own(3))

    def forward(self, x):
        past = lambda y, frames: F.pad(y, (frames, 0)) if self.causal else y
        x = F.relu(self.first(past(x, 4)))
        x = x + F.relu(self.pointwise(F.relu(self.depthwise(past(x, 8)))))
        x = self.pool(F.relu(self.strided(past(x, 2))))
        x = F.relu(self.mix(x.transpose(1, 2))).transpose(1, 2)
        x = F.relu(self.wide(past(x, 2)))
        return x + F.relu(self.last(past(x, 2)))  # a sum at the end: no last projection that stays in float


class Squares(nn.Module):
    """x [1, T, 20] -> [1, T/2, 48]: convolutions over time and frequency, causal or as far ahead as back."""

    def __init__(self, causal: bool):
        super().__init__()
        self.causal = causal
        own = lambda kernel: (0 if causal else kernel // 2, kernel // 2)
        self.first = nn.Conv2d(1, 16, 5, stride=2, padding=own(5))
        self.depthwise = nn.Conv2d(16, 16, 3, padding=own(3), groups=16)
        self.mix = nn.Linear(160, 48)

    def forward(self, x):
        past = lambda y, frames: F.pad(y, (0, 0, frames, 0)) if self.causal else y
        x = F.relu(self.first(past(x[:, None], 4)))
        x = x + F.relu(self.depthwise(past(x, 2)))
        x = F.relu(self.mix(x.transpose(1, 2).flatten(2)))
        return x + x.clamp(0, 1)


class Projected(nn.Module):
    """x [1, 16, T] -> [1, T, 20]: a linear layer, a convolution and a last projection, which stays in float."""

    def __init__(self):
        super().__init__()
        self.mix, self.last = nn.Linear(16, 64), nn.Linear(64, 20)
        self.conv = nn.Conv1d(64, 64, 3)

    def forward(self, x):
        x = F.relu(self.mix(x.transpose(1, 2)))
        x = F.relu(self.conv(F.pad(x.transpose(1, 2), (2, 0))))
        return self.last(x.transpose(1, 2))


QUICK = "symmetric"  # the one of the quick loop
MODELS = {
    "projected": (Projected, (1, 16), 2),
    "causal": (lambda: Stack(True), (1, 16), 2),
    "symmetric": (lambda: Stack(False), (1, 16), 2),
    "causal 2-d": (lambda: Squares(True), (1, 20), 1),
    "symmetric 2-d": (lambda: Squares(False), (1, 20), 1),
}


def on_targets(quick: str) -> list:
    """(target, model) of all, those but one model on the target `quick` slow."""
    every = [(t, n) for t in PACKAGES for n in MODELS]
    return [pytest.param(*c, marks=[] if c == (quick, QUICK) else [pytest.mark.slow]) for c in every]


def sample(shape: tuple[int, int], axis: int, frames: int) -> np.ndarray:
    """Noise of `frames` frames on `axis`, seeded by their number."""
    sizes = (*shape[:axis], frames, *shape[axis:])
    return np.random.default_rng(frames).standard_normal(sizes, dtype=np.float32)


@lru_cache
def model(name: str):
    """(module, the shape without time, the axis of time, samples to calibrate with)."""
    build, shape, axis = MODELS[name]
    torch.manual_seed(0)
    return build().eval(), shape, axis, [(sample(shape, axis, n),) for n in (60, 90)]


def both(folder: Path, stream: str, module, **settings):
    """The whole and the step file of the same compilation."""
    whole = speechc.compile(module, name="whole", output=folder, **settings)
    return whole, speechc.compile(module, name="step", output=folder, stream=stream, **settings)


def streamed(artifact, x: np.ndarray, axis: int, seed: int = 0) -> np.ndarray:
    """The first output, along its time axis, for `x` in pieces of random sizes."""
    session, random, at, parts = artifact.stream(), np.random.default_rng(seed), 0, []
    while at < x.shape[axis]:
        size = int(random.integers(1, 2 * session.layout.chunk + 1)) if hasattr(session, "layout") else 7
        parts.append(session.push(x.take(range(at, min(at + size, x.shape[axis])), axis))[0])
        at += size
    parts.append(session.flush()[0])
    (out, *_) = artifact.manifest.outputs
    return np.concatenate(parts, next(i for i, s in enumerate(out.shape) if out.time and i == out.time["axis"]))


# -- all integers --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("target", "name"), on_targets("onnx"))
def test_integer_files_are_equal_to_the_bit(target, name, tmp_path):
    pytest.importorskip(PACKAGES[target])
    module, shape, axis, samples = model(name)
    whole, step = both(
        tmp_path, f"{CHUNK} frames", module, inputs=samples[0], time_axis=axis, target=target, precision="int8",
        calibration=samples, integer_ports=True,
    )  # fmt: skip
    scale, zero = whole.manifest.inputs[0].quant
    assert step.manifest.inputs[0].quant == [scale, zero] and step.manifest.inputs[0].dtype == "i8"
    assert all(s.dtype in ("i8", "u8") for s in step.manifest.states if not s.name.startswith("clock."))
    if target == "onnx":  # integer kernels, as many as in the whole file; a last projection stays in float
        ran = [kernels(a.path) for a in (whole, step)]
        floats = [sum(r[k] for k in ("Conv", "MatMul", "Gemm", "FusedMatMul")) for r in ran]
        assert ran[0]["QLinearConv"] == ran[1]["QLinearConv"] > 0 and floats == 2 * [name == "projected"]
    for frames in LENGTHS:
        x = np.clip(np.rint(1.2 * sample(shape, axis, frames) / scale) + zero, -128, 127).astype(np.int8)
        (want,), got = whole.run(x), streamed(step, x, axis)
        assert got.dtype == want.dtype == np.int8
        np.testing.assert_array_equal(got, want, f"{frames} frames")


def kernels(path: Path) -> Counter:
    """The ops that onnxruntime really runs."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".run.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def graphs(name: str, target: str, precision: str) -> tuple[Module, Module]:
    """The graph that is streamed, and its step graph, as a compilation makes them."""
    module, _, axis, samples = model(name)
    subject = driver.read_subject(module, samples[0], axis)
    settings = driver.Settings(target, precision, samples, integer_ports=precision == "int8",
                               streaming=Streaming(stream=f"{CHUNK} frames"))  # fmt: skip
    feeds = driver.calibration_feeds(subject, settings)
    passes = driver.planned(subject, settings, True)
    at = next(i for i, p in enumerate(passes) if p.name == "streaming")
    manager = Manager(Context(samples=feeds))
    manager.run(subject.module, passes[:at])
    whole = clone(subject.module)
    manager.run(subject.module, passes[at:])
    return whole, subject.module


@pytest.mark.parametrize(("target", "name"), on_targets("onnx"))
def test_step_graphs_compute_and_keep_the_same_codes(target, name):
    whole, step = graphs(name, target, "int8")
    (port,) = whole.main.inputs
    _, shape, axis, _ = model(name)
    for frames in LENGTHS:
        x = np.random.default_rng(frames).integers(-128, 128, sample(shape, axis, frames).shape).astype(np.int8)
        for got, want in zip(run_stream(step.main, {port.name: x}), run(whole.main, {port.name: x}), strict=True):
            assert got.dtype == np.int8
            np.testing.assert_array_equal(got, want)
    kept = {n: v for n, v in step.main.states.items() if not n.startswith("clock.")}
    assert kept
    for state in kept.values():
        assert state.type.dtype in ("i8", "u8") and state.payload.initial == state.type.quant.zero_point
    floats = {n: v for n, v in graphs(name, target, "float32")[1].main.states.items() if not n.startswith("clock.")}
    size = lambda states, each: sum(each * int(np.prod(v.type.sizes)) for v in states.values())
    assert size(floats, 4) == 4 * size(kept, 1)


@pytest.mark.slow
def test_a_step_graph_that_is_wrong_in_float64_too_is_found_out(tmp_path, monkeypatch):
    """Codes may flip in float32, which costs dB; in float64 a thousandth is no flip and no rounding."""
    module, shape, axis, samples = model("projected")
    right, off = check_stream.run_stream, {np.dtype(np.float32): 1.02, np.dtype(np.float64): 1.001}
    compile = lambda: speechc.compile(module, samples[0], axis, "onnx", "int8", calibration=samples, output=tmp_path,
                                      stream=f"{CHUNK} frames")  # fmt: skip
    monkeypatch.setattr(check_stream, "run_stream", lambda *given: tuple(a * off[a.dtype] for a in right(*given)))
    with pytest.raises(NumericalError, match="in float64, chunk by chunk, is not the whole") as error:
        compile()
    assert error.value.code == "SC505"
    off[np.dtype(np.float64)] = 1.0
    compile()


# -- integers and floats -------------------------------------------------------------------------------------------
def mixed(name: str, target: str, folder: Path):
    """Whole file, step file, and an input, of a model with layers that compute in float."""
    wanted = STREAMED[name]
    case = wanted.build()
    feed = lambda frames: tuple(case.make_inputs(frames).values())
    rewrites = {"attention": "chunk:32 frames,left=64 frames"} if wanted.rewrites else {}
    return *both(
        folder, f"{wanted.chunk} frames", case.module, inputs=case.inputs, time_axis=case.time_axis, target=target,
        precision="int8", calibration=[feed(90), feed(160)], **rewrites,
    ), feed(301)[0]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepspeech", "conformer"])
def test_floats_between_codes_onnx(name, tmp_path):
    """Every stretch of float ops, fed with the codes of the whole, gives the codes of the whole again."""
    pytest.importorskip("onnxruntime")
    whole, step, x = mixed(name, "onnx", tmp_path)
    tapped = [Streamed(step.path, step.manifest, given) for given in (False, True)]
    alone, everything = compared(Tapped(whole.path), *tapped, x)
    assert alone.values > 10_000 and alone.most <= 1 and alone.differ <= ALIKE * alone.values, (alone, everything)
    assert decibels(streamed(step, x, 1), whole.run(x)[0]) > SAID


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepspeech", "conformer"])
def test_floats_between_codes_tflite(name, tmp_path):
    pytest.importorskip("ai_edge_litert")
    whole, step, x = mixed(name, "tflite", tmp_path)
    (want,), got = whole.run(x), streamed(step, x, 1)
    # A code that went the other way shows as more than a rounding of the outputs that follow from it.
    assert (np.abs(got - want) > 1e-4 * np.abs(want).max()).mean() <= ALIKE


def decibels(got: np.ndarray, want: np.ndarray) -> float:
    """Of `want` over what `got` is off."""
    noise = float(np.square(got.astype(float) - want).sum())
    return np.inf if noise == 0 else 10 * np.log10(float(np.square(want.astype(float)).sum()) / noise)


# -- the digit recogniser ------------------------------------------------------------------------------------------
@lru_cache
def clips() -> list[np.ndarray]:
    """The recordings that ship with the example."""
    sys.path.insert(0, str(DIGITS.parent))
    from demo import recordings

    return [audio for audio, _ in recordings()]


@pytest.fixture(scope="module", params=PACKAGES)
def digits(request, tmp_path_factory):
    """(target, whole file, step file) of the digit recogniser, limited to chunks, calibrated on the recordings."""
    pytest.importorskip(PACKAGES[request.param])
    return request.param, *both(
        tmp_path_factory.mktemp(request.param), "640ms", DIGITS, target=request.param, precision="int8",
        calibration=[(a,) for a in clips()], attention="chunk:640ms,left=2560ms", conv="chunk:640ms",
    )  # fmt: skip


def transcripts(whole, step, audio: list[np.ndarray]) -> tuple[list[str], list[str]]:
    """What the whole and the streamed file hear."""
    from demo import transcribe

    return [transcribe(whole.run(a)[0]) for a in audio], [transcribe(streamed(step, a, 1)) for a in audio]


@pytest.mark.slow
def test_digits_are_heard_alike(digits):
    target, whole, step = digits
    heard, again = transcripts(whole, step, clips())
    assert all(heard) and again == heard
    if target == "tflite":  # its float kernels sum every frame in the same order, however many there are
        for audio in clips():
            assert (np.abs(streamed(step, audio, 1) - whole.run(audio)[0]) > 1e-4).mean() <= ALIKE
        return
    files = [Streamed(step.path, step.manifest, given) for given in (False, True)]
    values = differ = 0
    for audio in clips():
        alone, _ = compared(Tapped(whole.path), *files, audio)
        values, differ = values + alone.values, differ + alone.differ
        assert alone.most <= 1
    assert differ <= ALIKE * values


@pytest.mark.slow
def test_digits_of_others_are_heard_alike(digits):
    """60 strings of the test takes of the Free Spoken Digit Dataset, where `SPEECHC_DIGITS` names its folder."""
    folder = os.environ.get("SPEECHC_DIGITS")
    if not folder:
        pytest.skip("SPEECHC_DIGITS is not set")
    sys.path.insert(0, str(DIGITS.parent))
    from data import TEST_TAKES, read_takes, test_set

    strings = test_set(read_takes(Path(folder), TEST_TAKES), (10.0, 40.0), seed=0, strings=60)
    heard, again = transcripts(*digits[1:], [audio[None] for audio, _ in strings])
    assert again == heard


# -- without calibration, and in 16 bits ---------------------------------------------------------------------------
@pytest.mark.slow
def test_scales_of_a_whole_chunk_are_refused(tmp_path):
    module, _, axis, samples = model("causal")
    with pytest.raises(UnsupportedError) as error:
        speechc.compile(module, samples[0], axis, "onnx", "int8", output=tmp_path, stream=f"{CHUNK} frames")
    assert error.value.code == "SC208" and "--calibrate" in str(error.value)
    assert not list(tmp_path.iterdir())


class Rows(nn.Module):
    """x [1, T, 64] -> [1, T, 40]: linear layers and a convolution that looks ahead."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 96), nn.Linear(96, 40)
        self.conv, self.second = nn.Conv1d(96, 96, 3, padding=1, groups=96), nn.Linear(96, 96)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = x + self.conv(x.transpose(1, 2)).transpose(1, 2)
        return self.last(F.relu(self.second(x)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "precision"),
    [("tflite", "int8"), *(pytest.param(t, "float16", marks=pytest.mark.slow) for t in PACKAGES)],
)
def test_scales_of_a_frame_and_half_floats(target, precision, tmp_path):
    """Linear layers with a scale a frame, and weights or arithmetic in 16 bits: the whole file of the same graph."""
    pytest.importorskip(PACKAGES[target])
    torch.manual_seed(0)
    module, x = Rows().eval(), sample((1, 64), 1, 101)
    subject = lambda: driver.read_subject(module, (sample((1, 64), 1, 40),), 1)
    settings = driver.Settings(target, precision, output=tmp_path, streaming=Streaming(stream=f"{CHUNK} frames"))
    passes = [str(p) for p in driver.planned(subject(), settings, False) if p.name != "streaming"]
    settings.name = "step"
    step = speechc.load(driver.build(subject(), settings).artefact)
    whole = speechc.load(
        driver.build(
            subject(), driver.Settings(target, precision, name="whole", output=tmp_path, passes=passes)
        ).artefact
    )
    (want,), got = whole.run(x), streamed(step, x, 1)
    assert got.shape == want.shape
    # Half floats are summed in another order: 11 bits of mantissa.
    tolerance = {"int8": 1e-5, "float16": 1e-5 if target == "tflite" else 4e-3}[precision] * np.abs(want).max()
    assert (np.abs(got - want) > tolerance).mean() <= ALIKE


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision"), [("onnx", "float16"), ("onnx", "int8"), ("tflite", "int8")])
def test_chunks_are_no_later_than_in_float(target, precision):
    """What stores a number in another way between padding and a convolution adds no delay, and no state."""
    torch.manual_seed(0)
    subject = lambda: driver.read_subject(Rows().eval(), (sample((1, 64), 1, 40),), 1)

    def found(precision: str):
        module, calibration = subject(), [(sample((1, 64), 1, n),) for n in (60, 90)]
        asked = Streaming(stream=f"{CHUNK} frames", conv=f"chunk:{CHUNK} frames")
        settings = driver.Settings(target, precision, calibration, streaming=asked)
        feeds = driver.calibration_feeds(module, settings)
        Manager(Context(samples=feeds)).run(module.module, driver.planned(module, settings, precision == "int8"))
        graph = module.module.main
        late = [d.time.delay for v in graph.outputs for d in v.type.shape if d.time is not None]
        return late, sorted(v.type.sizes for v in graph.states.values())

    assert found(precision) == found("float32") and found("float32")[0] == [0]

"""Files that take audio: a front end in front of a model, on targets, in steps, in few bits; and what is refused."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from command import run as command
from front_ends import STREAM, WHOLE, chirp, features, noise, relative, signals
from speechc.compiler import driver
from speechc.compiler.front_end import features_of
from speechc.compiler.settings import Settings
from speechc.compiler.streaming import Streaming
from speechc.compiler.subject import Subject
from speechc.ir import text
from speechc.ir.errors import UsageError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run as interpret
from speechc.ir.text import clone
from speechc.ir.types import Dim, Tensor, time_input
from speechc.lowering.stream_session import BatchSession
from speechc.passes.add_front_end import feature_port
from speechc.passes.base import Context, make
from speechc.passes.front_end.reference import digest, facts, signal
from speechc.passes.front_end.spec import parse
from speechc.passes.quantize_select import front_end

# A runtime's own float32 sums against the interpreter's, of the largest value: see test_front_ends.
TOLERANCE = 1e-4
T = symbol("T")
ALL = [*STREAM, *WHOLE]


def identity(width: int, *, shape=None, dtype: str = "f32") -> Subject:
    """A model that returns its features, each a frame's, as they are."""
    module = Module()
    graph = module.graph("main")
    x = graph.input("x", Tensor(dtype, shape or [1, time_input(T, "x"), width]))
    g = Builder(graph, Loc("net", "Net", "net.py:1"))
    graph.output(g.maximum(x, g.const(-1e9 if dtype == "f32" else -1e4, dtype)), "y")
    return subject(module)


def subject(module: Module) -> Subject:
    from speechc.compiler.samples import default_sizes, draw

    original = clone(module)
    sample = draw(module.main, default_sizes(module.main, {}))
    return Subject(module, lambda feeds: interpret(original.main, feeds), sample, "net")


def build(spec: str, target: str, tmp_path, of: Subject | None = None, **more):
    of = of or identity(parse(spec).width)
    settings = Settings(target=target, output=tmp_path, front_end=spec, **more)
    report = driver.build(of, settings)
    return report, driver.open_artefact(report.artefact)


@pytest.mark.parametrize("target", ["onnx", pytest.param("tflite", marks=pytest.mark.slow)])
@pytest.mark.parametrize("spec", [p if p in ALL[:1] else pytest.param(p, marks=pytest.mark.slow) for p in ALL])
def test_emitted(spec, target, tmp_path):
    """The file gives the features that the definition does; convolutions have taken the place of frames."""
    report, session = build(spec, target, tmp_path)
    assert session.manifest.sample_rate == parse(spec).sample_rate
    assert session.manifest.features["inside"] and session.manifest.features["input"] == "audio"
    for audio in signals(parse(spec).sample_rate):
        (made,) = session.run(audio[None])
        assert relative(made[0], features(spec, audio)) < TOLERANCE


# A frame's future and as many frames a step as a model may want.
STEPS = [
    ("onnx", "kaldi-fbank{bins=20}+cumulative", 4),
    *(pytest.param(target, spec, 4, marks=pytest.mark.slow) for target in ("onnx", "tflite") for spec in STREAM),
]


@pytest.mark.parametrize("target, spec, frames", STEPS)
def test_streamed_file(target, spec, frames, tmp_path):
    meant = parse(spec)
    streaming = Streaming(stream=f"{frames * meant.shift} samples")
    report, session = build(spec, target, tmp_path, streaming=streaming)
    assert session.manifest.streaming["tick_hz"] == meant.sample_rate
    stream = BatchSession(session).streams[0]
    for n in (meant.least, 5 * meant.shift + 77, 12000):
        audio = chirp(meant.sample_rate, 2.0)[:n]
        cuts = np.split(audio[None], [n // 3, n // 2], 1)
        made = np.concatenate([*(stream.push(c)[0] for c in cuts), stream.flush()[0]], 1)
        stream.reset()
        assert relative(made[0], features(spec, audio)) < TOLERANCE


# -- where the features go in ----------------------------------------------------------------------------------------
LAYOUTS = {
    "frames first": [1, time_input(T, "x"), 20],
    "bins first": [1, 20, time_input(T, "x")],
    "one utterance": [time_input(T, "x"), 20],
    "an image": [1, 1, time_input(T, "x"), 20],
    "a batch": [symbol("batch"), time_input(T, "x"), 20],
    "fixed": [1, 20, 31],
    "half as many": [1, time_input(2 * T, "x"), 20],
    "twenty frames": [1, time_input(T, "x"), 20],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    """The features stand in the input as its type says, whatever its layout."""
    of, spec = identity(20, shape=LAYOUTS[layout]), "kaldi-fbank{bins=20}"
    from speechc.compiler.front_end import prepared

    before = clone(of.module)
    made = prepared(of, Settings(front_end=spec))
    (audio,) = made.module.main.inputs
    samples = made.sample["audio"]
    (out,) = interpret(made.module.main, made.sample)
    assert (audio.type.shape[-1].time is None) == (layout == "fixed")
    assert np.array_equal(out, made.reference(made.sample)[0])
    port = feature_port(before.main, parse(spec))
    plain = np.moveaxis(out, (port.frames, port.bins), (-2, -1)).reshape(-1, out.shape[port.frames], 20)
    assert np.abs(plain[0] - features(spec, samples[0])).max() < 1e-3
    if layout == "a batch":
        two = np.stack([chirp(16000, 0.5), noise(16000, 0.5)])
        (out,) = interpret(made.module.main, {"audio": two})
        assert all(relative(a, features(spec, b)) < TOLERANCE for a, b in zip(out, two))


def test_other_inputs_follow_the_audio():
    """A mask of frames has as many as the signal has; lengths are held to samples."""
    module = Module(meta={"limits": {"T": [4, 100]}})
    graph = module.graph("main")
    frames = time_input(T, "x")
    x = graph.input("x", Tensor("f32", [1, frames, 20]))
    mask = graph.input("mask", Tensor("f32", [1, frames]))
    g = Builder(graph, Loc("net", "Net", "net.py:1"))
    graph.output(g.mul(x, g.reshape(mask, shape=(1, T, 1))), "y")
    make("front-end{spec='kaldi-fbank{bins=20}'}").run(graph, context := Context(meta=module.meta))
    assert [str(v.type) for v in graph.inputs] == [
        "f32[1, samples@audio]",
        "f32[1, ((samples+80)//160-2)@audio(1/160)]",
    ]
    assert module.meta["limits"] == {"samples": [880, 16399]} and context.meta["sample_rate"] == 16000
    feeds = {"audio": chirp(16000, 0.2)[None], "mask": np.ones((1, 18), np.float32)}
    assert interpret(graph, feeds)[0].shape == (1, 18, 20)


@pytest.mark.parametrize(
    "shape, spec, says",
    [([1, time_input(T, "x"), 40], "whisper", "no input takes 80 features a frame"),
     ([1, 80, 80], "whisper", "no input takes"),
     ([1, time_input(T, "x")], "whisper", "x (f32[1, T@x])")],
)  # fmt: skip
def test_features_that_do_not_fit(shape, spec, says):
    of = identity(0, shape=shape)
    with pytest.raises(UsageError, match=re.escape(says)) as error:
        make(f"front-end{{spec={spec!r}}}").run(of.module.main, Context())
    assert error.value.code == "SC073"


def test_two_inputs_that_fit():
    module = Module()
    graph = module.graph("main")
    a, b = (graph.input(n, Tensor("f32", [1, time_input(T, "x"), 80])) for n in "ab")
    graph.output(Builder(graph, Loc("net", "Net", "net.py:1")).add(a, b), "y")
    with pytest.raises(UsageError, match="a and b may both"):
        make("front-end{spec='whisper'}").run(graph, Context())
    make("front-end{spec='whisper', input='b'}").run(graph, Context())
    assert [v.name for v in graph.inputs] == ["a", "audio"]


# -- few bits --------------------------------------------------------------------------------------------------------
def dense(width: int) -> Subject:
    """Two layers on features, large enough for 8 bits to pay."""
    module, random = Module(), np.random.default_rng(0)
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [1, time_input(T, "x"), width]))
    g = Builder(graph, Loc("net", "Net", "net.py:1"))
    for name, size in (("a", 256), ("b", 64)):
        w = (random.standard_normal((size, x.type.sizes[2])) / 10).astype(np.float32)
        x = g.tanh(g.linear(x, g.weight(name, w)))
    graph.output(x, "y")
    return subject(module)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite"])
@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_few_bits(target, precision, tmp_path):
    """Features are computed in float32 all the same: with fewer bits the soft bands would be noise."""
    seen = []
    spec, of = "kaldi-fbank{bins=40}+fixed{mean=12.0,std=4.0}", dense(40)
    feeds = [{"audio": a[None]} for a in signals(16000)]
    settings = Settings(target=target, output=tmp_path, front_end=spec, precision=precision, calibration=feeds)
    together = driver.Together(of, [settings], lambda what: None)
    together.begin()
    report = together.finish(together.branches[0])
    (graph,) = together.subject.module.graphs.values()
    for op in graph.ops:
        if op.loc.path.startswith("front-end.0"):
            seen.append(op.kind)
            assert op in front_end(graph) or op.kind in ("reshape", "transpose", "pad", "cast", "slice", "log", "mul")
            assert all(v is None or v.type.quant is None for v in op.operands)
            assert all(v is None or v.type.dtype != "f16" for v in op.operands), op
    assert {"conv", "log"} <= set(seen) or {"linear", "log"} <= set(seen)
    assert report.proof.file.snr > (20 if precision == "int8" else 40)


# -- what streaming refuses, and its ways out -----------------------------------------------------------------------
@pytest.mark.parametrize("spec", ["whisper", pytest.param("kaldi-fbank{bins=20}+utterance", marks=pytest.mark.slow)])
def test_hints_work_when_followed_literally(spec, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "audio").mkdir()
    for name, audio in zip("ab", signals(16000)):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", audio, 16000)
    text.save(identity(parse(spec).width).module, tmp_path / "net.sir")
    asked = ["net.sir", "--stream", "40ms", "-q"]
    status, _, error = command(*asked, "--front-end", spec, cwd=tmp_path)
    assert status == 4 and "SC203" in error and "front-end" in error
    hints = [line.partition("try: ")[2].partition("  (")[0] for line in error.splitlines() if "try: " in line]
    ways = [h for h in hints if h.startswith("--front-end")]
    (normalise,) = [h for h in hints if h.startswith("--normalise")]
    first, fixed = normalise.split(", or ")
    ways += [f"{first} --front-end {spec}", f"--normalise {fixed.replace(' with', '')} --front-end {spec}"]
    assert len(ways) == 3
    for way in ways:
        flags = shlex.split(way.replace("DIR", "audio"))
        status, _, error = command(*asked, *flags, cwd=tmp_path)
        assert status == 0, (way, error)


# -- what the manifest says ------------------------------------------------------------------------------------------
def test_features_of_a_file(tmp_path):
    """`--features` leaves the file as it is and says everything about what it takes; recordings can calibrate it."""
    spec = "kaldi-fbank{bins=20}+cumulative"
    settings = Settings(output=tmp_path, features=spec, streaming=Streaming(stream="40ms"))
    report = driver.build(identity(20), settings)
    manifest = driver.manifest_of(report.artefact)
    said = manifest.features
    assert manifest.inputs[0].name == "x" == said["input"] and not said["inside"]
    assert manifest.streaming["tick_hz"] == 100 and manifest.sample_rate == 16000
    assert (said["sample_rate"], said["frame_shift"], said["frame_shift_ms"], said["bins"]) == (16000, 160, 10, 20)
    meant = parse(said["spec"])
    assert meant.text(every=True) == said["spec"] and digest(meant) == said["hash"]
    assert facts(meant, "x", False)["reference"] == said["reference"]
    reference = said["reference"]
    audio = signal(16000, reference["samples"])
    made = features_of(manifest, audio[None])[0]
    assert len(made) == reference["frames"]
    assert np.abs(made[reference["frame"]] - reference["values"]).max() < 1e-4 * np.abs(made).max()


def test_the_fixed_signal_is_as_its_text_says():
    rate, u, wanted = 8000, 1, []
    for n in range(50):
        u = (1664525 * u + 1013904223) % 2**32
        t = n / rate
        wanted.append(0.25 * np.sin(2 * np.pi * (100 * t + 0.2 * rate * t**2)) + 0.05 * (u / 2**31 - 1))
    assert np.abs(signal(rate, 50) - wanted).max() < 1e-7


@pytest.mark.slow
def test_recordings_calibrate_a_file_that_takes_features(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "audio").mkdir()
    for name, audio in zip("ab", signals(16000)):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", audio, 16000)
    given = {"output": tmp_path, "precision": "int8", "features": "kaldi-fbank{bins=40}"}
    feeds = driver.calibration_feeds(
        s := driver.prepared(dense(40), Settings(**given)), Settings(calibration=tmp_path / "audio", **given)
    )
    assert [f["x"].shape[2] for f in feeds] == [40, 40]
    for fed, name in zip(feeds, "ab"):
        stored, _ = soundfile.read(tmp_path / "audio" / f"{name}.wav", dtype="float32")
        assert relative(fed["x"][0], features(given["features"], stored)) < TOLERANCE
    report = driver.build(s, Settings(calibration=feeds, output=tmp_path, precision="int8"))
    assert report.proof.file.snr > 20


def test_settings_that_contradict(tmp_path):
    for settings, says in (
        (Settings(front_end="whisper", features="whisper"), "leave one of them out"),
        (Settings(front_end="whisper", sample_rate=8000), "at 16000 Hz, --sample-rate is 8000 Hz"),
        (Settings(features="log-mel{like=librosa,bins=80}", sample_rate=16000), "sample_rate=16000 in the spec"),
    ):
        with pytest.raises(UsageError, match=re.escape(says)) as error:
            driver.build(identity(80), settings)
        assert error.value.code == "SC075"
    assert not list(tmp_path.iterdir())


def test_a_graph_in_text_takes_the_pass(tmp_path):
    """`speechc opt` runs it as any other pass; sample rate and limits go into the facts of the module."""
    text.save(identity(80).module, tmp_path / "net.sir")
    status, out, error = command("opt", "net.sir", "-p", "front-end{spec='whisper'}", cwd=tmp_path)
    assert status == 0, error
    assert '"sample_rate": 16000' in out and "graph main(%audio: f32[1, samples@audio])" in out
    assert text.parse_module(out).main.inputs[0].type.shape[1] == Dim(
        symbol("samples"), time_input(symbol("samples"), "audio").time
    )


@pytest.mark.slow
@pytest.mark.parametrize("stream", [None, "40ms"])
def test_words_of_a_model_of_features(stream, tmp_path):
    """Word errors are counted on recordings whose features the model takes, as on audio."""
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("jiwer")
    (tmp_path / "audio").mkdir()
    of = identity(20)
    of.module.meta["tokens"] = ["", *"abcdefghijklmnopqrs"]
    for name, audio in zip("ab", signals(16000)):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", audio, 16000)
    lines = [json.dumps({"audio": f"{name}.wav", "text": "abc"}) for name in "ab"]
    (tmp_path / "audio" / "texts.jsonl").write_text("\n".join(lines))
    settings = Settings(output=tmp_path, features="kaldi-fbank{bins=20}", calibration=tmp_path / "audio",
                        streaming=Streaming(stream=stream))  # fmt: skip
    report = driver.build(of, settings)
    assert report.words is not None and len(report.words.rates) == 2
    assert len(set(report.words.rates.values())) == 1 and not report.words.left_out

"""Streaming from the command line and from Python: durations, flags, proof, report, `speechc run`."""

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import speechc
from command import run
from models.steps import causal, late
from speechc.compiler.evaluate.counts import count_words
from speechc.compiler.latency import latencies, states_by_module
from speechc.compiler.listen.ctc import Spoken
from speechc.compiler.run_file import run_file
from speechc.compiler.texts import texts_in
from speechc.compiler.words import Greedy, speaking
from speechc.ir.errors import NumericalError, SpeechcError, UsageError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run as interpret
from speechc.ir.text import load, save
from speechc.ir.types import Dim, Tensor, Time, time_input
from speechc.lowering.manifest import Port

DIGITS = Path(speechc.__file__).parent / "examples" / "digits"
ATTENTION = ("--attention", "chunk:640ms,left=2560ms")


@pytest.fixture
def model(tmp_path):
    """A small model of 10 ms features as text, in a folder of its own."""
    folder = tmp_path / "model"
    folder.mkdir()
    save(late()[0], folder / "late.sir")
    return folder / "late.sir"


# -- flags that make no sense ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--stream", "soon"], 2, "SC047"),
        (["--stream", "0ms"], 2, "SC047"),
        (["--stream", "15ms"], 2, "10ms or 20ms"),
        (["--stream", "3 frames"], 4, "SC200"),
        (["--attention", "full"], 2, "one of chunk, window"),
        (["--attention", "chunk"], 2, "write chunk:640ms"),
        (["--attention", "chunk:640ms,up=3"], 2, "takes chunk, left, right, not up"),
        (["--attention", "chunk:640ms,640ms"], 2, "is not name=duration"),
        (["--attention", "chunk:64,left=64", "--left-context", "64"], 2, "both set the left"),
        (["--conv", "causal:3"], 2, "causal takes nothing"),
        (["--conv", "chunk"], 2, "how long is a chunk"),
        (["--bidirectional", "backward"], 2, "one of forward, latency-controlled"),
        (["--normalise", "window"], 2, "window:3s"),
        (["--max-latency", "1s"], 2, "--stream 320ms with it"),
        (["--batch", "2"], 2, "--stream 320ms with it"),
        (["--stream", "40ms", "--batch", "0"], 2, "1 or more"),
        (["--stream", "40ms", "--cache", "big"], 2, "one of speed, memory"),
        (["--stream", "40ms", "-p", "simplify"], 2, "--passes replaces the plan"),
        (["--stream", "40ms", "--max-latency", "50ms"], 4, "SC209"),
        (["--stream", "40ms", "--int8"], 4, "SC208"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said(arguments, status, words, model, tmp_path):
    found, _, err = run(model, "-q", "-o", "out", *arguments, cwd=tmp_path)
    assert found == status and words in err and err.count("error[") == 1, err
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


# -- compiling -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_a_step_file_its_report_and_its_sessions(target, model, tmp_path):
    status, out, err = run(model, "--stream", "40ms", "-t", target, "-o", "out", "--json", cwd=tmp_path)
    assert status == 0, err
    streaming = json.loads(out)["streaming"]
    assert streaming["chunk"] == {"frames": 4, "ms": 40.0}
    assert streaming["outputs"]["y"]["latency"] == {"frames": 2, "ms": 20.0}
    assert streaming["outputs"]["y"]["by_module"] == {"front.conv": {"frames": 2, "ms": 20.0}}
    assert streaming["outputs"]["peak"]["latency"]["frames"] == 0
    for proof in ("graph_against_whole", "file_against_whole"):
        assert streaming[proof]["error"] < 1e-5
    # Four frames of history, and what the clock counts.
    assert streaming["states"]["front.conv"]["bytes"] == 4 * 3 * 4
    artifact = speechc.load(tmp_path / "out" / f"late.{target}")
    assert artifact.manifest.streaming["state_bytes"] == streaming["state_bytes"]
    whole = load(model)
    x = np.random.default_rng(0).standard_normal((2, 3, 23)).astype(np.float32)
    expected = [interpret(whole.main, {"x": x[i : i + 1]}) for i in range(2)]
    one, many = artifact.stream(), artifact.stream(2)
    parts = [one.push(x[:1, :, :9])]
    many.step({0: (x[:1, :, :5],), 1: (x[1:, :, :14],)})  # sessions on one file do not see each other
    parts += [one.push(x[:1, :, 9:]), one.flush()]
    for a, b in zip(zip(*parts, strict=True), expected[0], strict=True):
        np.testing.assert_allclose(np.concatenate(a, -1), b, rtol=1e-5, atol=1e-6)
    many.streams[1].reset()
    first = many.step({1: (x[1:],)})[1]
    for a, b, e in zip(first, many.flush([1])[1], expected[1], strict=True):
        np.testing.assert_allclose(np.concatenate([a, b], -1), e, rtol=1e-5, atol=1e-6)


def test_the_report_in_words(model, tmp_path):
    status, _, err = run(model, "--stream", "40ms", "-o", "out", cwd=tmp_path)
    assert status == 0
    for words in ("latency of y", "20 ms, and the chunk", "streamed = whole", "front.conv", "in 3 tensors"):
        assert words in err, err
    status, out, _ = run("inspect", "out/late.onnx", cwd=tmp_path)
    assert status == 0 and "chunk: 40 ms, 1 stream" in out and "latency of y: 20 ms (1 of its frames)" in out


def test_a_file_that_forgets_is_found_out(model, tmp_path, monkeypatch):
    from speechc.lowering.onnx.run import OnnxSession

    monkeypatch.setattr(OnnxSession, "set_state", lambda self, name, value: None if "conv" in name else
                        super(OnnxSession, self).set_state(name, value))  # fmt: skip
    right = OnnxSession.run_named

    def forgets(self, feeds):
        out = right(self, feeds)
        self.states = {n: a * (a.dtype != np.float32) for n, a in self.states.items()}
        return out

    monkeypatch.setattr(OnnxSession, "run_named", forgets)
    with pytest.raises(NumericalError, match="chunk by chunk, is not the whole") as error:
        speechc.compile(model, stream="40ms", output=tmp_path / "out")
    assert error.value.code == "SC505" and not (tmp_path / "out").exists()


def test_a_graph_without_delay_has_no_clock(tmp_path):
    save(causal()[0], tmp_path / "causal.sir")
    artifact = speechc.compile(tmp_path / "causal.sir", stream="4 frames", output=tmp_path)
    m = artifact.manifest
    assert [p.name for p in m.inputs] == ["x"] and [p.name for p in m.outputs] == ["y"]
    assert [p.name for p in m.states] == ["front.conv.history"]
    assert m.streaming["flush"]["n_valid"] is None and m.streaming["outputs"]["y"]["range"] is None
    with pytest.raises(UsageError, match="takes whole utterances"):
        speechc.compile(tmp_path / "causal.sir", output=tmp_path / "whole").stream()


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_several_streams_in_one_step(target, tmp_path):
    module = Module(meta={"tick_hz": 100})
    g = module.graph("main")
    x = g.input("x", Tensor("f32", [symbol("batch"), 3, time_input(symbol("T"), "audio")]))
    w = np.random.default_rng(0).standard_normal((3, 3, 5)).astype(np.float32)
    g.output(Builder(g, Loc("conv")).conv(x, g.weight("w", w), None, stride=(2,), pad=((2, 2),)), "y")
    save(module, tmp_path / "m.sir")
    artifact = speechc.compile(tmp_path / "m.sir", stream="40ms", batch=3, target=target, output=tmp_path)
    assert artifact.manifest.streaming["batch"] == 3
    assert all(p.batch_axis == 0 for p in artifact.manifest.states)
    session, random = artifact.stream(), np.random.default_rng(0)
    x = random.standard_normal((3, 3, 19)).astype(np.float32)
    expected = interpret(load(tmp_path / "m.sir").main, {"x": x})[0]
    parts, at = [[] for _ in range(3)], [0, 0, 0]
    while min(at) < 19:
        turn = {i: int(random.integers(0, 9)) for i in range(3) if random.random() < 0.7}
        for i, out in session.step({i: (x[i : i + 1, :, at[i] : at[i] + n],) for i, n in turn.items()}).items():
            parts[i].append(out[0])
            at[i] += turn[i]
    for i, out in session.flush().items():
        whole = np.concatenate([*parts[i], out[0]], 2)
        np.testing.assert_allclose(whole, expected[i : i + 1], rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="is for 3 streams, not 2"):
        artifact.stream(2)


def test_a_pass_for_three_streams_of_a_model_for_one(tmp_path):
    save(causal()[0], tmp_path / "causal.sir")  # three channels, which are not three streams
    passes = ("-p", "streaming{chunk=4, batch=3}")
    status, _, err = run("causal.sir", "-q", *passes, "-o", "out", cwd=tmp_path)
    assert status == 2 and "SC051" in err and "f32[batch,T]" in err, err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def keyed(tmp_path):
    """A model of two streams, one at half the rate of the other, and a key that does not follow time."""
    module, half = Module(meta={"limits": {"T": [2, 80]}}), symbol("T") // 2
    g = module.graph("main")
    x = g.input("x", Tensor("f32", [1, 3, time_input(symbol("T"), "audio")]))
    z = g.input("z", Tensor("f32", [1, 3, Dim(half, Time("audio", Fraction(1, 2), 0, half))]))
    key = g.input("key", Tensor("f32", [1, 3, 1]))
    b = Builder(g, Loc("conv"))
    w = np.random.default_rng(0).standard_normal((3, 3, 4)).astype(np.float32)
    y = b.conv(x, g.weight("w", w), None, stride=(2,), pad=((1, 1),))
    g.output(b.mul(b.add(y, z), key), "y")
    save(module, tmp_path / "keyed.sir")
    artifact = speechc.compile(tmp_path / "keyed.sir", stream="8 frames", output=tmp_path)
    return load(tmp_path / "keyed.sir").main, artifact


def test_inputs_of_unlike_rates_and_a_key_given_once(keyed):
    graph, artifact = keyed
    random = np.random.default_rng(0)
    x, z, key = (random.standard_normal(s).astype(np.float32) for s in ((1, 3, 46), (1, 3, 23), (1, 3, 1)))
    (expected,) = interpret(graph, {"x": x, "z": z, "key": key})
    session = artifact.stream(key=key)
    pieces = [((0, 3), (0, 9)), ((3, 30), (9, 9)), ((30, 31), (9, 20)), ((31, 46), (20, 23))]  # neither waits in vain
    parts = [session.push(x[:, :, a:b], z[:, :, c:d])[0] for (a, b), (c, d) in pieces]
    np.testing.assert_allclose(np.concatenate([*parts, *session.flush()], 2), expected, rtol=1e-5, atol=1e-6)


def test_what_a_session_of_several_inputs_refuses(keyed):
    _, artifact = keyed
    key = np.ones((1, 3, 1), np.float32)
    for wrong in ({}, {"key": key, "other": key}):
        with pytest.raises(UsageError, match="inputs given once are key"):
            artifact.stream(**wrong)
    session = artifact.stream(key=key)
    session.push(np.zeros((1, 3, 10), np.float32), np.zeros((1, 3, 4), np.float32))
    with pytest.raises(UsageError, match="5 of z, not 4") as error:
        session.flush()
    assert error.value.code == "SC112"
    session.push(np.zeros((1, 3, 0), np.float32), np.zeros((1, 3, 1), np.float32))
    assert session.flush()[0].shape[2] <= 5
    session.reset()
    with pytest.raises(SpeechcError) as error:
        session.push(np.zeros((1, 3, 82), np.float32), np.zeros((1, 3, 41), np.float32))
    assert error.value.code == "SC211"
    with pytest.raises(SpeechcError, match="2 arrays"):
        session.push(np.zeros((1, 3, 1), np.float32))


def test_latency_and_state_by_module():
    step = late()[1].main
    y, peak = latencies(step)[:2]
    assert (y.output, y.ticks, y.parts) == ("y", 2, {"front.conv": 2})
    assert (peak.output, peak.ticks, peak.parts) == ("peak", 0, {})
    held = states_by_module(step)
    assert {k: (h.count, h.bytes) for k, h in held.items()} == {"front.conv": (1, 48), "clock": (2, 8)}


# -- the shipped model -----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return speechc.compile(
        DIGITS / "model.pt", stream="320ms", attention="chunk:640ms,left=2560ms", output=folder, name="step"
    )


@pytest.mark.slow
def test_digits_streamed_are_digits_limited(digits, tmp_path):
    from speechc.compiler.audio import read_audio

    whole = speechc.compile(DIGITS / "model.pt", attention="chunk:640ms,left=2560ms", output=tmp_path)
    assert whole.report["rewrite"]["snr"] > 10 and whole.manifest.streaming is None
    session, random = digits.stream(), np.random.default_rng(0)
    for path in sorted((DIGITS / "audio").glob("*.wav")):
        audio, parts = read_audio(path, 8000)[None], []
        at = 0
        while at < audio.shape[1]:
            n = int(random.integers(0, 6000))
            parts += session.push(audio[:, at : at + n])
            at += n
        streamed = np.concatenate([*parts, *session.flush()], 1)
        session.reset()
        (expected,) = whole.run(audio)
        # float32 through four blocks, summed in another order
        np.testing.assert_allclose(streamed, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
        assert [str(line) for line in run_file(digits.path, path)][-1].split("s  ", 1)[1] == " ".join(path.stem)


@pytest.mark.slow
def test_word_errors_whole_rewritten_and_streamed(tmp_path):
    """The recordings have texts: limited attention is wrong as often whole as streamed."""
    more = ("--stream", "320ms", "--calibrate", DIGITS / "audio", "--json", "-o", "out")
    status, out, err = run(DIGITS / "model.pt", *ATTENTION, *more, cwd=tmp_path)
    assert status == 0, err
    heard = json.loads(out)["word_errors"]
    assert heard["rates"]["model"] == 0.0 and heard["recordings"] == 6 and heard["words"] == 27
    assert heard["rates"]["rewritten"] == heard["rates"]["file, streamed"] <= 0.05


@pytest.mark.slow
def test_latency_adds_up(digits):
    output = digits.report["streaming"]["outputs"]["output"]
    assert sum(part["frames"] for part in output["by_module"].values()) == output["latency"]["frames"] > 0
    assert digits.report["streaming"]["state_bytes"] == digits.manifest.streaming["state_bytes"]


@pytest.mark.slow
def test_too_late_is_refused_with_the_modules_that_cost_most(tmp_path):
    more = ("--stream", "320ms", "--max-latency", "500ms", "-o", "out")
    status, _, err = run(DIGITS / "model.pt", "-q", *ATTENTION, *more, cwd=tmp_path)
    assert status == 4 and "SC209" in err and not list(tmp_path.iterdir())
    for words in ("blocks.3.attention: 360ms", "--attention chunk", "--conv chunk"):
        assert words in err, err


@pytest.mark.slow
def test_results_as_they_come(tmp_path):
    """One frame of attention and convolutions without future: the text grows while the audio runs."""
    more = ("--stream", "320ms", "--attention", "chunk:320ms,left=2560ms", "--conv", "causal", "-o", "out")
    status, _, err = run(DIGITS / "model.pt", "-q", *more, cwd=tmp_path)
    assert status == 0, err
    recording = DIGITS / "audio" / "58213.wav"
    status, out, err = run("run", "out/model.onnx", recording, "--stream", "--json", cwd=tmp_path)
    assert status == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) > 2 and lines[-1]["final"] and not lines[0]["final"]
    assert all(b["text"].startswith(a["text"]) for a, b in pairwise(lines))
    assert [line["at_ms"] for line in lines] == sorted(line["at_ms"] for line in lines)
    status, words, _ = run("run", "out/model.onnx", recording, cwd=tmp_path)
    assert words.split(" s  ")[1].strip() == lines[-1]["text"]


# -- running ---------------------------------------------------------------------------------------------------------
def test_running_without_tokens_shows_ranges(model, tmp_path):
    assert run(model, "-q", "--stream", "40ms", "-o", "out", cwd=tmp_path)[0] == 0
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 10), np.float32))
    status, out, err = run("run", "out/late.onnx", "x.npy", "--stream", "--json", cwd=tmp_path)
    assert status == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["outputs"]["peak"]["frames"] for line in lines] == [[0, 4], [4, 8], [8, 10]]
    assert [line["outputs"]["y"]["frames"] for line in lines] == [[0, 1], [1, 3], [3, 5]]
    status, out, _ = run("run", "out/late.onnx", "x.npy", "--stream", cwd=tmp_path)
    assert status == 0 and "y: float32[1, 3, 2] frames 1 to 3" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["out/late.onnx", "x.npy", "--stream"], "SC050"),
        (["out/late.onnx", "none.wav"], "SC010"),
        (["out/late.onnx", "x.txt"], "SC030"),
        (["out/late.onnx", "x.wav"], "takes features"),
        (["out/late.onnx", "y.npz"], "no array x"),
    ],
)
def test_what_cannot_be_run(arguments, words, model, tmp_path):
    assert run(model, "-q", "-o", "out", cwd=tmp_path)[0] == 0
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 10), np.float32))
    np.savez(tmp_path / "y.npz", y=np.zeros(3))
    for name in ("x.txt", "x.wav"):
        (tmp_path / name).write_text("")
    status, _, err = run("run", *arguments, cwd=tmp_path)
    assert status == 2 and words in err, err


@pytest.mark.parametrize(
    ("tokens", "pieces", "text"),
    [
        (["<blank>", "a", "b"], [[1, 1, 0], [1, 2, 2], [], [0, 2]], "a a b b"),
        (["<blank>", "a", "b"], [[1, -1, -1], [1, -1, 2]], "a a b"),  # repeats merged already
        (["\u2581the", "\u2581cat", "s", "<blk>"], [[0, 0, 3, 1], [2]], "the cats"),
        (["<pad>", "|", "o", "k"], [[1, 2, 3, 1, 2]], "ok o"),
    ],
)
def test_greedy_text(tokens, pieces, text):
    time = {"axis": 1, "clock": "audio", "rate": "1", "delay": 0, "length": "T"}
    ports = {
        "ids": Port("ids", "ids", "i64", [1, "T"], time),
        "p": Port("p", "p", "f32", [1, "T", len(tokens)], time),
    }
    scored = np.eye(len(tokens), dtype=np.float32)
    made = {
        "ids": [np.array([piece], np.int64) for piece in pieces],
        "p": [scored[np.array(piece, int)][None] for piece in pieces],
    }
    for name in ports if all(t >= 0 for piece in pieces for t in piece) else ["ids"]:
        assert speaking([ports[name]], tokens) == name
        heard = Spoken(name, Greedy(tokens))
        news = [heard.add({name: piece}) for piece in made[name]]
        assert heard.text == text and any(news)


@pytest.mark.parametrize(
    ("heard", "said", "wrong"),
    [("a b c", "a b c", 0), ("", "a b", 2), ("a b", "", 2), ("a x c", "a b c", 1), ("a c", "a b c", 1),
     ("b a b c", "a b c", 1), ("c b a", "a b c", 2)],
)  # fmt: skip
def test_word_errors(heard, said, wrong):
    assert count_words(said, heard).errors == wrong


def test_texts_that_are_malformed(tmp_path):
    assert texts_in(tmp_path) == []
    (tmp_path / "texts.jsonl").write_text('{"audio": "a.wav", "text": "one"}\n{"audio": 3}\n')
    with pytest.raises(UsageError, match="line 2") as error:
        texts_in(tmp_path)
    assert error.value.code == "SC037"


def test_errors_have_codes():
    with pytest.raises(SpeechcError) as error:
        run_file(Path("nowhere.onnx"), Path("x.wav")).__next__()
    assert error.value.code == "SC010"

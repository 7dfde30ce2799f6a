"""Listeners: texts and detections of files whose recordings are made here, whole and in pieces."""

import json
from itertools import pairwise

import numpy as np
import pytest
from command import run
from models.levels import FRAME, LEVELS, RATE, counting, emitted, featured, levels, speak, voice
from speechc.compiler.listen import open_listener
from speechc.compiler.listen.listener import KINDS, Listener, listens
from speechc.ir.errors import UsageError
from speechc.passes.front_end.reference import features
from speechc.passes.front_end.spec import parse


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    modules = {
        "whole": levels(),
        "step": levels(160),
        "short": levels(most=4000),
        "voice": voice(threshold=0.5, labels=["voice"]),
        "voice-step": voice(160, threshold=0.5, labels=["voice"]),
        "plain": voice(),
        "calls": counting(),
    }
    return {name: emitted(module, folder / f"{name}.onnx") for name, module in modules.items()}


def in_pieces(stream, samples, sizes):
    """All results of a stream that is fed with pieces of these sizes, again and again."""
    heard, at, k = [], 0, 0
    while at < len(samples):
        piece = samples[at : at + sizes[k % len(sizes)]]
        at, k = at + len(piece), k + 1
        heard.append(stream.push(piece))
    return [*(h for h in heard if h is not None), stream.flush()]


@pytest.mark.parametrize("name", ["whole", "step"])
def test_text_of_a_recording(name, files):
    listener = open_listener(files[name])
    assert (listener.kind, listener.sample_rate, listener.streams) == ("ctc", RATE, name == "step")
    for text in ("one two two four", "", "three"):
        heard = listener.hear(speak(text))
        assert heard.text == text and heard.final and list(heard.outputs) == ["scores"]
        assert heard.outputs["scores"].shape == (1, len(speak(text)) // FRAME, len(LEVELS))
    assert [h.text for h in listener.hear_many([speak("one"), speak("two")])] == ["one", "two"]


@pytest.mark.parametrize("sizes", [(160,), (37, 1000, 1), (100000,)])
def test_pieces_are_the_whole(sizes, files):
    whole, step = open_listener(files["whole"]), open_listener(files["step"])
    samples = speak("one two two four")[:-30]
    expected, stream = whole.hear(samples), step.stream()
    for _ in range(2):  # reset starts over
        parts = in_pieces(stream, samples, sizes)
        assert parts[-1].text == "one two two four" and [p.final for p in parts] == [False] * (len(parts) - 1) + [True]
        assert all(b.text.startswith(a.text) for a, b in pairwise(parts))
        scores = np.concatenate([p.outputs["scores"] for p in parts if "scores" in p.outputs], 1)
        np.testing.assert_array_equal(scores, expected.outputs["scores"])
        ends = [p.frames["scores"] for p in parts if "scores" in p.frames]
        assert ends[0][0] == 0 and ends[-1][1] == scores.shape[1]
        assert all(a[1] == b[0] for a, b in pairwise(ends))
        stream.reset()


def test_streams_of_one_file_do_not_mix(files):
    listener = open_listener(files["step"])
    a, b = listener.stream(), listener.stream()
    for piece_a, piece_b in zip(np.split(speak("one two"), 10), np.split(speak("four four"), 10)):
        a.push(piece_a)
        b.push(piece_b)
    assert (a.flush().text, b.flush().text) == ("one two", "four four")


@pytest.mark.parametrize("name", ["voice", "voice-step"])
def test_detections_have_times(name, files):
    """A word of 40 ms begins every 80 ms; "one" is below the threshold."""
    heard = open_listener(files[name]).hear(speak("two one three"))
    assert [(s.label, round(s.start, 6), round(s.end, 6), s.going) for s in heard.segments] == [
        ("voice", 0.04, 0.08, False),
        ("voice", 0.20, 0.24, False),
    ]
    assert heard.text is None and heard.segments[1].score > heard.segments[0].score > 0.9


def test_threshold_and_labels_of_the_caller(files):
    assert open_listener(files["plain"]).kind == "outputs"
    low = open_listener(files["plain"], threshold=1e-3, labels=["loud"])
    assert low.kind == "scores" and [s.label for s in low.hear(speak("two one")).segments] == ["loud", "loud"]
    assert len(open_listener(files["voice"], threshold=0.9999).hear(speak("two three")).segments) == 1
    with pytest.raises(UsageError, match="2 labels for 1 scores") as error:
        open_listener(files["plain"], labels=["a", "b"]).hear(speak("one"))
    assert error.value.code == "SC055"


def test_detections_begin_and_end(files):
    stream = open_listener(files["voice-step"]).stream()
    parts = in_pieces(stream, np.concatenate([speak("two"), np.tile(speak("two")[320:640], 2)]), (160,))
    news = [[(round(s.start, 2), s.going) for s in p.segments] for p in parts]
    assert news == [[(0.04, True)], [(0.04, False)], [(0.04, False), (0.12, True)], [(0.04, False), (0.12, False)]]
    assert parts[-1].segments[1].end == pytest.approx(0.2)


def test_a_file_with_state_of_its_own_is_called_in_turn(files):
    listener = open_listener(files["calls"])
    assert listener.streams and listener.chunk_samples == FRAME and listener.max_samples is None
    for _ in range(2):  # every recording starts over
        calls = listener.hear(np.zeros(FRAME * 3 + 1, np.float32)).outputs["calls"]
        assert calls.reshape(-1).tolist() == [1, 2, 3, 4]
    a, b = listener.stream(), listener.stream()
    assert a.push(np.zeros(FRAME * 2, np.float32)).outputs["calls"].max() == 2
    assert b.push(np.zeros(FRAME, np.float32)).outputs["calls"].max() == 1
    assert a.push(np.zeros(FRAME, np.float32)).outputs["calls"].max() == 3


def test_lengths_that_a_file_does_not_take(files):
    listener = open_listener(files["short"])
    assert listener.max_samples == 4000
    assert listener.hear(speak("one")).text == "one"
    with pytest.raises(UsageError, match=r"0\.60 s is too long: short\.onnx takes 0\.50 s") as error:
        listener.hear(np.zeros(4800, np.float32))
    assert error.value.code == "SC112"
    heard = listener.hear(np.zeros(30, np.float32))
    assert heard.text == "" and [n.kind for n in heard.notes] == ["padded"] and "50 samples of silence" in str(heard)


@pytest.mark.parametrize("layout", ["tb", "bt"])
@pytest.mark.parametrize("chunk", [None, 4])
def test_features_that_the_manifest_names_are_computed(layout, chunk, tmp_path):
    spec = "kaldi-fbank{bins=23}"
    listener = open_listener(emitted(featured(spec, 23, layout, chunk), tmp_path / "f.onnx"))
    listener.check_audio()
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 9000).astype(np.float32)
    (wanted,) = np.abs(features(parse(spec), audio[None]))
    assert len(wanted) % 4 != 0 and listener.sample_rate == 16000 and not listener.streams
    got = listener.hear(audio).outputs["y"][0]
    np.testing.assert_array_equal(got if layout == "tb" else got.T, wanted)
    with pytest.raises(UsageError, match="takes features") as error:
        listener.stream()
    assert error.value.code == "SC050"


def test_what_cannot_be_opened(files, tmp_path):
    bundle = tmp_path / "bundle.json"
    bundle.write_text(json.dumps({"kind": "telepathy", "files": {}}))
    cases = [
        (lambda: open_listener(files["whole"], threshold=0.5), "SC053"),
        (lambda: open_listener(files["plain"], treshold=0.5), "SC053"),
        (lambda: open_listener(files["plain"], output="nothing"), "SC055"),
        (lambda: open_listener(tmp_path / "none.onnx"), "SC010"),
        (lambda: open_listener(tmp_path), "SC054"),
        (lambda: open_listener(bundle), "SC054"),
        (lambda: open_listener(files["whole"]).stream(), "SC050"),
    ]
    for action, code in cases:
        with pytest.raises(UsageError) as error:
            action()
        assert error.value.code == code
    bundle.write_text("[]")
    with pytest.raises(UsageError, match="does not say its kind"):
        open_listener(bundle)


def test_a_kind_is_registered_once():
    assert {"ctc", "scores", "outputs"} <= KINDS.keys()
    with pytest.raises(TypeError, match="two listeners of kind ctc"):
        listens("ctc")(type("Other", (Listener,), {}))


# -- the command -----------------------------------------------------------------------------------------------------
def write(path, samples, rate=RATE, **more):
    import soundfile

    soundfile.write(path, samples, rate, **more)
    return path


def test_run_prints_detections(files, tmp_path):
    write(tmp_path / "a.wav", speak("two one three"))
    status, out, err = run("run", files["voice"], "a.wav", cwd=tmp_path)
    assert status == 0 and err == ""
    assert out.splitlines() == ["    0.04 s to     0.08 s  voice  0.982", "    0.20 s to     0.24 s  voice  1.000"]
    status, out, _ = run("run", files["voice-step"], "a.wav", "--stream", cwd=tmp_path)
    assert [line.split("s to")[1].split()[0] for line in out.splitlines()] == ["...", "0.08", "...", "0.24"]
    status, out, _ = run("run", files["plain"], "a.wav", "--threshold", 0.9999, "--labels", "x", "--json", cwd=tmp_path)
    (segment,) = json.loads(out)["segments"]
    assert segment["label"] == "x" and segment["start"] == pytest.approx(0.2)
    write(tmp_path / "b.wav", speak("one"))
    assert run("run", files["voice"], "b.wav", cwd=tmp_path)[1] == "nothing detected\n"


def test_run_hears_a_folder(files, tmp_path):
    (tmp_path / "r" / "deep").mkdir(parents=True)
    write(tmp_path / "r" / "b.wav", speak("one two"))
    write(tmp_path / "r" / "deep" / "a.flac", speak("three"))
    status, out, _ = run("run", files["whole"], "r", cwd=tmp_path)
    assert status == 0 and out.splitlines() == ["b.wav: one two", "deep/a.flac: three"]
    status, out, _ = run("run", files["step"], "r", "--stream", "--json", cwd=tmp_path)
    lines = [json.loads(line) for line in out.splitlines()]
    final = {line["audio"]: line["text"] for line in lines if line.get("final")}
    assert final == {"b.wav": "one two", "deep/a.flac": "three"}
    assert lines[-1] == {"recordings": 2, "used": 2, "left_out": [], "notes": {}}
    assert [line["text"] for line in lines if line.get("audio") == "b.wav"] == ["one", "one two", "one two"]


def test_a_bar_on_a_terminal_alone(capsys, monkeypatch):
    import sys

    from speechc.compiler.show_heard import progress

    for terminal, quiet, drawn in ((True, False, True), (True, True, False), (False, False, False)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setenv("TERM", "xterm")
        with progress("recordings", quiet) as told:
            told(1, 3)
        captured = capsys.readouterr()
        assert ("recordings" in captured.err) == drawn and captured.out == ""

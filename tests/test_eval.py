"""`speechc eval`: errors of files by hand, gates, the command, recordings with something wrong."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import speechc
from command import run
from models.levels import RATE, emitted, levels, speak, voice
from speechc.compiler.evaluate.counts import Counts
from speechc.compiler.evaluate.data import read_data
from speechc.compiler.evaluate.evaluation import evaluate, named
from speechc.compiler.evaluate.gates import check_gates, parse_gate
from speechc.compiler.evaluate.show import worst_by_heading
from speechc.compiler.listen import open_listener
from speechc.ir.errors import QualityError, UsageError

DIGITS = Path(speechc.__file__).parent / "examples" / "digits"


# -- gates -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "metric", "limit", "relative", "strict"),
    [("wer<=5%", "wer", 0.05, False, False), ("cer <= 0.02", "cer", 0.02, False, False),
     ("wer<1.02x", "wer", 1.02, True, True), ("left-out<=0", "left-out", 0, False, False)],
)  # fmt: skip
def test_gates_are_read(text, metric, limit, relative, strict):
    gate = parse_gate(text)
    assert (gate.metric, gate.limit, gate.relative, gate.strict) == (metric, limit, relative, strict)


@pytest.mark.parametrize(
    "text", ["wer", "wer>=5%", "wer<=", "mer<=5%", "wer<=5%%", "wer<=-1", "left-out<=5%", "wer<=1e9", ""]
)
def test_what_is_no_gate(text):
    with pytest.raises(UsageError) as error:
        parse_gate(text)
    assert error.value.code == "SC086"


def test_a_relative_gate_wants_two_files():
    with pytest.raises(UsageError, match="only one"):
        check_gates([parse_gate("wer<=1.02x")], 1)


# -- the whole -------------------------------------------------------------------------------------------------------
TEXTS = {"a": "one two three", "b": "four four one", "c": "three", "d": "two one"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """`good` hears every word; `bad` hears words a level too low: one is nothing, two is one, and so on."""
    folder = tmp_path_factory.mktemp("files")
    return {
        "good": emitted(levels(), folder / "good.onnx"),
        "step": emitted(levels(160), folder / "step.onnx"),
        "bad": emitted(levels(bias=-0.2), folder / "bad.onnx"),
        "short": emitted(levels(most=2000), folder / "short.onnx"),
        "voice": emitted(voice(threshold=0.5), folder / "voice.onnx"),
    }


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = []
    for name, text in TEXTS.items():
        soundfile.write(folder / f"{name}.wav", speak(text), RATE)
        lines.append({"audio": f"{name}.wav", "text": text.title() + "."})
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    return folder


def test_errors_of_files(files, data):
    """`bad` hears "one two", "three three", "two", "one" (a repeat across silence stays two): counted by hand."""
    items, missing = read_data(data / "list.jsonl")
    found = evaluate([open_listener(files[n]) for n in ("good", "bad", "step")], items, missing)
    assert [u.heard[1] for u in found.utterances] == ["one two", "three three", "two", "one"]
    good, bad, step = found.results
    assert good.words == step.words == Counts(9, 0, 0, 0) and good.words_interval == (0.0, 0.0)
    # a: "one two three" - three missing; b: two other, one missing; c: another; d: two missing
    assert bad.words == Counts(9, 3, 3, 0) and bad.words.rate == pytest.approx(6 / 9)
    low, high = bad.words_interval
    assert 1 / 3 <= low < 6 / 9 < high <= 1
    assert bad.against_first.difference == pytest.approx(6 / 9) and bad.against_first.worse == 1.0
    assert bad.not_worse == 0.0 and step.not_worse == 1.0 and good.not_worse is None
    assert [u.name for u in found.worst(2)] == ["b.wav", "a.wav"] or found.worst(1)[0].name == "b.wav"
    assert found.seconds == pytest.approx(sum(len(speak(t)) for t in TEXTS.values()) / RATE)
    made = json.loads(json.dumps(found.as_dict()))
    assert made["files"][1]["wer"]["errors"] == 6 and made["counted"] == 4 and made["left_out"] == []


@pytest.mark.slow
def test_the_worst_are_filled_up_by_errors(files, data, tmp_path):
    """`bad` makes 1, 3, 1 and 1 errors in a, b, c and d; `good`, after it, makes none."""
    listed = ("--data", data / "list.jsonl", "--report", tmp_path / "page.html")
    status, out, err = run("eval", files["bad"], files["good"], *listed, "--worst", 3, cwd=tmp_path)
    assert status == 0, err
    _, told = out.split("most word errors, none more than the first file")
    assert "worst against" not in out and told.index("b.wav") < told.index("a.wav")
    assert "d.wav" not in told and "Most word errors, none more than" in (tmp_path / "page.html").read_text()
    items, _ = read_data(data / "list.jsonl")
    found = evaluate([open_listener(files[n]) for n in ("good", "bad")], items)
    found.utterances[1].words.reverse()  # b.wav gets better
    assert [u.name for u in found.worst(4)] == ["a.wav", "c.wav", "d.wav", "b.wav"]
    headings = [(heading, len(worst)) for heading, worst in worst_by_heading(found, 4)]
    assert headings == [("worst against the first file", 3), ("most word errors of the others", 1)]


def test_the_command(files, data, tmp_path):
    status, out, err = run("eval", files["good"], files["bad"], "--data", data / "list.jsonl", cwd=tmp_path)
    assert status == 0, err
    assert "4 recordings, 0.9 s, 9 words" in out and "66.67 %" in out and "+66.67" in out
    assert "[three] [three] [-one]" in out and "0.0 % of recordings" in out
    status, out, err = run("eval", files["good"], "--data", data / "list.jsonl", "-q", cwd=tmp_path)
    assert (status, out, err) == (0, "", "")


def test_json_and_transcripts(files, data, tmp_path):
    more = ("--data", data / "list.jsonl", "--json", "--transcripts", "t.jsonl", "--worst", 1)
    status, out, _ = run("eval", files["good"], files["bad"], *more, cwd=tmp_path)
    found = json.loads(out)
    assert status == 0 and [f["file"] for f in found["files"]] == ["good.onnx", "bad.onnx"]
    assert len(found["worst"]) == 1 and found["files"][1]["against_first"]["worse"] == 1.0
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert {line["audio"]: line["heard"][0] for line in lines} == {f"{n}.wav": t for n, t in TEXTS.items()}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--transcripts", "no/t.jsonl"], "SC011"),
        (["--transcripts", "."], "SC011"),
        (["--threads", "0"], "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_heard(flags, said, files, data, tmp_path):
    status, out, err = run("eval", files["good"], "--data", data / "list.jsonl", *flags, cwd=tmp_path)
    assert (status, out) == (2, "") and said in err


def test_a_file_that_was_renamed_with_its_manifest_is_told_its_name(files, data, tmp_path):
    for end in ("", ".json"):
        shutil.copy(f"{files['good']}{end}", tmp_path / f"new.onnx{end}")
    status, _, err = run("eval", "new.onnx", "--data", data / "list.jsonl", cwd=tmp_path)
    assert status == 2 and "SC036" in err and "the manifest of good.onnx, not of new.onnx" in " ".join(err.split())


@pytest.mark.parametrize(
    ("gates", "status"),
    [(["wer<=70%"], 0), (["wer<=66%"], 6), (["wer<=1.02x"], 6), (["wer<=70%", "cer<=1%"], 6), (["left-out<=0"], 0)],
)
def test_gates_of_the_command(gates, status, files, data, tmp_path):
    flags = [part for gate in gates for part in ("--gate", gate)]
    got, out, err = run(
        "eval", files["good"], files["bad"], "--data", data / "list.jsonl", "--json", *flags, cwd=tmp_path
    )
    assert got == status, err
    verdicts = json.loads(out)["gates"]  # the result is there, passed or not
    assert all(v["passed"] for v in verdicts) == (status == 0)
    if status:
        assert "SC600" in err and "bad.onnx: fails" in err and "good.onnx: fails" not in err
        assert QualityError.exit_code == 6


def test_a_gate_at_its_limit(files, data):
    found = evaluate([open_listener(files["bad"]), open_listener(files["bad"])], read_data(data / "list.jsonl")[0])
    verdict = lambda text: [v.passed for v in parse_gate(text).check(found)]
    assert verdict("wer<=1x") == [True] and verdict("wer<1x") == [False]
    assert verdict(f"wer<={6 / 9!r}") == [True, True] and verdict("left-out<=0") == [True, True]


# -- sets of recordings ----------------------------------------------------------------------------------------------
def test_texts_beside_recordings(files, data, tmp_path):
    (data / "list.jsonl").unlink()
    for name, text in TEXTS.items():
        (data / f"{name}.txt").write_text(text + "\n", encoding="utf-8-sig")
    (data / "README.txt").write_text("about these")
    soundfile.write(data / "untold.wav", speak("one"), RATE)
    (data / "unheard.txt").write_text("one")
    status, out, _ = run("eval", files["good"], "--data", data, "--json", cwd=tmp_path)
    found = json.loads(out)
    assert status == 0 and found["counted"] == 4 and found["files"][0]["wer"]["errors"] == 0
    assert {e["audio"]: e["reason"] for e in found["left_out"]} == {"untold.wav": "no text", "unheard.txt": "missing"}


def test_recordings_elsewhere(files, data, tmp_path):
    (tmp_path / "lists").mkdir()
    moved = (data / "list.jsonl").rename(tmp_path / "lists" / "list.jsonl")
    assert run("eval", files["good"], "--data", moved, "-q", cwd=tmp_path)[0] == 2
    status, out, _ = run("eval", files["good"], "--data", moved, "--audio-root", data, "--json", cwd=tmp_path)
    assert status == 0 and json.loads(out)["counted"] == 4
    assert run("eval", files["good"], "--data", moved, "--audio-root", "nowhere", cwd=tmp_path)[0] == 2


BROKEN = {
    "gone.wav": ("one", "missing", None),
    "empty.wav": ("one", "empty", b""),
    "prose.wav": ("one", "not audio", b"no audio\n" * 50),
    "cut.wav": ("one two three", "cut off", "cut"),
    "nan.wav": ("one", "NaN in it", np.full(800, np.nan, np.float32)),
    "long.wav": ("one two three four", "too long", speak("one two three four")),
    "wordless.wav": ("...", None, speak("one two")),
    "blank.wav": ("", None, speak("")),
    "silent.wav": ("one", None, np.zeros(1000)),
}


@pytest.fixture
def broken(data):
    """The good recordings and the broken ones, which must not change what is counted of the others."""
    lines = [json.loads(line) for line in (data / "list.jsonl").read_text().splitlines() if line]
    for name, (text, _, content) in BROKEN.items():
        lines.append({"audio": name, "text": text})
        if isinstance(content, np.ndarray):
            soundfile.write(data / name, content, RATE, subtype="FLOAT")
        elif isinstance(content, bytes):
            (data / name).write_bytes(content)
        elif content == "cut":
            soundfile.write(data / name, speak(text), RATE)
            (data / name).write_bytes((data / name).read_bytes()[:-900])
    (data / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return data / "list.jsonl"


def test_bad_recordings_are_counted_and_left_out(files, broken, tmp_path):
    status, out, _ = run("eval", files["good"], files["short"], "--data", broken, "--json", cwd=tmp_path)
    found = json.loads(out)
    assert status == 0
    assert {e["audio"]: e["reason"] for e in found["left_out"]} == {
        name: reason for name, (_, reason, _) in BROKEN.items() if reason
    } | {"a.wav": "too long", "b.wav": "too long"}
    assert found["without_text"] == ["wordless.wav", "blank.wav"]
    assert [f["extra_words"] for f in found["files"]] == [2, 2]
    # c and d, and the silent one, whose word is missing: for both files, though one could hear more
    assert [f["wer"]["length"] for f in found["files"]] == [4, 4]
    assert [f["wer"]["deletions"] for f in found["files"]] == [1, 1]
    assert found["recordings"] == len(TEXTS) + len(BROKEN) and found["counted"] == 3
    assert found["notes"]["silent"] == 2
    status, out, _ = run("eval", files["good"], files["short"], "--data", broken, cwd=tmp_path)
    assert status == 0
    for words in (
        "10 recordings not counted",
        "missing",
        "cut off",
        "promises",
        "SC056",
        "silent",
        "words heard there",
    ):
        assert words in out, words
    assert run("eval", files["good"], "--data", broken, "--gate", "left-out<=0", "-q", cwd=tmp_path)[0] == 6


@pytest.mark.parametrize(
    ("content", "code"),
    [("", "SC033"), ("{}\n", "SC037"), ('{"audio": "a.wav"}\n', "SC037"),
     ('{"audio": "a.wav", "text": null}\n', "SC037"),
     ('{"audio": "a.wav", "text": 3}\n', "SC037"), ("not json\n", "SC037"), ("[1]\n", "SC037"),
     (b"\xff\xfe\x00", "SC037"), ('{"audio": "gone.wav", "text": "one"}\n', "SC057"),
     ('{"audio": "a.wav", "text": "--"}\n', "SC057")],
)  # fmt: skip
def test_lists_that_cannot_be_used(content, code, files, data, tmp_path):
    (data / "bad.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    status, out, err = run("eval", files["good"], "--data", data / "bad.jsonl", "--json", cwd=tmp_path)
    assert (status, out) == (2, "") and code in err, err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("voice",), "SC087"), (("good", "--normalise-text", "loud"), "SC017"), (("good", "--gate", "wer<=2x"), "SC086"),
     (("good", "--gate", "speed<=2"), "SC086"), (("good", "--data", "nowhere"), "SC010"), (("none",), "SC010"),
     (("good", "--decode", "beam"), "SC015"), (("good", "--decode", "threshold=1"), "SC053")],
)  # fmt: skip
def test_what_cannot_be_evaluated(arguments, code, files, data, tmp_path):
    file, *more = arguments
    status, out, err = run("eval", files.get(file, "none.onnx"), "--data", data / "list.jsonl", *more, cwd=tmp_path)
    assert (status, out) == (2, "") and code in err, err


def test_one_recording_has_no_interval(files, data, tmp_path):
    (data / "list.jsonl").write_text('{"audio": "a.wav", "text": "one two two"}\n')
    status, out, _ = run("eval", files["good"], files["bad"], "--data", data / "list.jsonl", "--json", cwd=tmp_path)
    found = json.loads(out)["files"]
    assert status == 0 and found[0]["wer"]["interval"] is None and found[1]["against_first"] is None
    assert found[0]["wer"]["rate"] == pytest.approx(1 / 3)
    assert run("eval", files["good"], files["bad"], "--data", data / "list.jsonl", cwd=tmp_path)[0] == 0


def test_a_file_that_gives_nan_is_not_counted(files, data):
    listener = open_listener(files["good"])
    hear = listener.hear

    def half(samples):
        heard = hear(samples)
        if len(samples) > 2000:
            heard.outputs["scores"][0, -1, 0] = math.nan
        return heard

    listener.hear = half
    found = evaluate([listener], read_data(data / "list.jsonl")[0])
    assert [(e.name, e.kind) for e in found.left_out] == [("a.wav", "NaN"), ("b.wav", "NaN")]


def test_short_names():
    assert named([Path("x/a.onnx"), Path("x/b.onnx")]) == ["a.onnx", "b.onnx"]
    assert named([Path("x/a.onnx"), Path("y/a.onnx")]) == ["x/a.onnx", "y/a.onnx"]


# -- the model that ships --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    more = {"stream": "640ms", "attention": "chunk:640ms,left=2560ms", "conv": "chunk"}
    return [
        speechc.compile(str(DIGITS / "model.pt"), output=folder / "whole.onnx").path,
        speechc.compile(str(DIGITS / "model.pt"), output=folder / "step.onnx", **more).path,
    ]


@pytest.mark.slow
def test_the_digits_that_ship(digits, tmp_path):
    status, out, err = run("eval", *digits, "--data", DIGITS / "audio", "--json", "--gate", "wer<=5%", cwd=tmp_path)
    assert status == 0, err
    found = json.loads(out)
    assert found["counted"] == 6 and [f["wer"]["length"] for f in found["files"]] == [27, 27]
    assert found["files"][0]["wer"]["errors"] == 0


@pytest.mark.slow
def test_spoken_digits(digits, tmp_path):
    """The test takes, joined to strings of five by speaker, where `SPEECHC_DIGITS` names their folder."""
    folder = os.environ.get("SPEECHC_DIGITS")
    if not folder:
        pytest.skip("SPEECHC_DIGITS is not set")
    random, lines = np.random.default_rng(0), []
    for k in range(40):
        speaker = ("george", "jackson", "nicolas", "yweweler")[k % 4]
        said = random.integers(0, 10, 5)
        read = lambda d, s=speaker: soundfile.read(
            Path(folder) / f"{d}_{s}_{random.integers(0, 5)}.wav", dtype="float32"
        )[0]
        quiet = np.zeros(1600, np.float32)
        parts = [p for d in said for p in (read(d), quiet)]
        soundfile.write(tmp_path / f"{k}.wav", np.concatenate([quiet, *parts]), 8000)
        lines.append(json.dumps({"audio": f"{k}.wav", "text": " ".join(map(str, said))}))
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    gates = ("--gate", "wer<=5%")  # 0.3 % whole and 0.7 % in chunks is what the model reaches on 300 of them
    status, out, err = run("eval", *digits, "--data", tmp_path / "list.jsonl", "--json", *gates, cwd=tmp_path)
    assert status == 0, err
    found = json.loads(out)
    assert found["counted"] == 40 and all(f["wer"]["length"] == 200 for f in found["files"])
    for file in found["files"]:
        low, high = file["wer"]["interval"]
        assert low <= file["wer"]["rate"] <= high

"""Cascades: what a stage says inside is what it says alone on the same stretch; those that sleep are not run."""

import json
from collections import Counter
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import speechc
from command import run
from models.levels import FRAME, RATE, counting, emitted, levels, speak, voice
from speechc.compiler.audio import read_audio
from speechc.compiler.cascade import Cascade, Stage
from speechc.compiler.listen import open_listener
from speechc.ir.cost import Cost
from speechc.ir.errors import UsageError
from speechc.ir.expr import evaluate

EXAMPLES = Path(__file__).parent.parent / "examples"
BLOCK = 160  # samples of a step of the first stage: 20 ms


def silence(seconds):
    return np.zeros(round(seconds * RATE), np.float32)


# "one" is too quiet for the voice detector; every word is 40 ms, with 40 ms around it.
AUDIO = np.concatenate(
    [silence(1), speak("one two one"), silence(2), speak("three one"), silence(1.02), speak("four two"), silence(0.7)]
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    modules = {
        "voice": voice(BLOCK, threshold=0.5, labels=["loud"]),
        "high": voice(240, threshold=0.999999, labels=["four"]),
        "whole-voice": voice(threshold=0.5),
        "step": levels(BLOCK),
        "whole": levels(),
        "short": levels(most=4000),
        "calls": counting(),
    }
    return {name: emitted(module, folder / f"{name}.onnx") for name, module in modules.items()}


def two(files, words="step", **more):
    times = {"pre_roll_ms": 100, "hang_over_ms": 200} | more
    return Cascade.of([Stage("voice", files["voice"]), Stage("words", files[words], **times)])


def in_pieces(cascade, samples, seed):
    rng, stream, at, parts = np.random.default_rng(seed), cascade.stream(), 0, []
    while at < len(samples):
        size = int(rng.integers(1, [30, 3000][seed % 2]))
        parts.append(stream.push(samples[at : at + size]))
        at += size
    return [p for p in parts if p is not None], stream.flush()


def stretches(heard, stage):
    """(first sample, end, text) of what a stage heard."""
    return [
        (round(s.start * RATE), round(s.end * RATE), s.label.removeprefix(f"{stage}: "))
        for s in heard.segments
        if s.label.startswith(f"{stage}: ")
    ]


@pytest.mark.parametrize("words", ["step", "whole"])
def test_inside_is_as_alone(words, files):
    heard, alone = two(files, words).hear(AUDIO), open_listener(files[words])
    found = stretches(heard, "words")
    assert [text for *_, text in found] == ["one two one", "three one", "four two"]
    assert heard.text == "one two one three one four two" and heard.final
    for start, end, text in found:
        assert alone.hear(AUDIO[start:end]).text == text


def test_where_a_stretch_begins_and_ends(files):
    """Speech at 2 s: the block of 20 ms in which it is found, less 100 ms; 200 ms behind the last block with any."""
    audio = np.concatenate([silence(2), speak("two"), silence(2)])  # loud from 2.04 to 2.08 s
    ((start, end, _),) = stretches(two(files).hear(audio), "words")
    assert (start, end) == (round((2.06 - 0.1) * RATE), round((2.08 + 0.2) * RATE))
    ((start, end, _),) = stretches(two(files, pre_roll_ms=0, hang_over_ms=0).hear(audio), "words")
    assert (start, end) == (round(2.04 * RATE), round(2.08 * RATE))
    ((start, _, _),) = stretches(two(files, pre_roll_ms=5000).hear(audio), "words")
    assert start == 0


@pytest.mark.parametrize("words", ["step", "whole"])
@pytest.mark.parametrize("seed", [0, 1])
def test_pieces_are_the_whole(words, seed, files):
    cascade = two(files, words)
    whole = cascade.hear(AUDIO)
    parts, last = in_pieces(cascade, AUDIO, seed)
    assert (last.text, last.segments) == (whole.text, whole.segments)
    without = lambda usage: [{n: v for n, v in s.items() if n != "seconds"} for s in usage["stages"]]
    assert without(last.usage) == without(whole.usage)
    assert parts and not any(p.final or p.usage for p in parts)
    texts = [p.text for p in parts]
    assert all(b.startswith(a) for a, b in pairwise(texts))


def counted(cascade):
    """Calls of the sessions from now on, by stage; counted here, whatever the cascade says."""
    calls = Counter()
    for stage, listener in zip(cascade.stages, cascade.listeners):
        for session in listener.sessions.values():

            def call(feeds, name=stage.name, inner=session.run_named):
                calls[name] += 1
                return inner(feeds)

            session.run_named = call
    return calls


def test_who_sleeps_is_not_run(files):
    cascade = two(files)
    calls = counted(cascade)
    usage = cascade.hear(silence(2)).usage
    assert calls == {"voice": 100} and [s["calls"] for s in usage["stages"]] == [100, 0]
    assert [s["wakes"] for s in usage["stages"]] == [1, 0] and usage["stages"][1]["duty"] == 0
    calls.clear()
    heard = cascade.hear(AUDIO)
    found = stretches(heard, "words")
    assert calls["words"] == sum(-(-(end - start) // BLOCK) for start, end, _ in found) < calls["voice"] / 2
    voice_, words = heard.usage["stages"]
    assert (voice_["calls"], words["calls"], words["wakes"]) == (calls["voice"], calls["words"], 3)
    assert words["heard_s"] == pytest.approx(sum(end - start for start, end, _ in found) / RATE)
    assert words["duty"] == pytest.approx(words["heard_s"] * RATE / len(AUDIO)) and voice_["duty"] == 1


def test_compute_that_is_saved(files):
    cascade = two(files)
    usage = cascade.hear(AUDIO).usage
    each = [x.manifest.cost["macs"] for x in cascade.listeners]
    assert min(each) > 0
    for stage, macs in zip(usage["stages"], each):
        assert stage["macs"] == stage["calls"] * macs
        assert stage["macs_always"] == round(len(AUDIO) / BLOCK * macs)
    assert usage["saved"] == pytest.approx(1 - usage["macs"] / usage["macs_always"])
    assert 0.2 < usage["saved"] < 0.5 and usage["seconds"] > 0
    whole = two(files, "whole")
    usage, cost = whole.hear(AUDIO).usage, Cost.of(whole.listeners[1].manifest.cost)
    lengths = [end - start for start, end, _ in stretches(whole.hear(AUDIO), "words")]
    assert usage["stages"][1]["macs"] == sum(evaluate(cost.macs, {"T": n}) for n in lengths)


def test_three_stages_and_what_keeps_one_awake(files):
    """The last stage is woken by "four" alone, and stays awake while there is any voice."""
    stages = [
        Stage("voice", files["voice"], options={"gap_ms": 100}),
        Stage("wake", files["high"], pre_roll_ms=100, hang_over_ms=100),
        Stage("words", files["step"], pre_roll_ms=0, hang_over_ms=60, until="voice"),
    ]
    audio = np.concatenate([silence(0.5), speak("two"), silence(0.5), speak("four two three two"), silence(0.5)])
    heard = Cascade.of(stages).hear(audio)
    assert heard.text == "four two three two"
    assert [len(stretches(heard, s)) for s in ("voice", "wake", "words")] == [2, 1, 1]
    assert [s["wakes"] for s in heard.usage["stages"]] == [1, 2, 1]
    stages[2].until = None
    assert Cascade.of(stages).hear(audio).text == "four two"  # until the keyword is over


@pytest.mark.parametrize(("words", "longest"), [("step", 300), ("short", None)])
def test_no_stretch_is_too_long(words, longest, files):
    """What follows is another stretch, with no sample heard twice or lost; "short" takes half a second at most."""
    cascade = two(files, words, longest_ms=longest)
    heard = cascade.hear(np.concatenate([silence(0.2), speak("two " * 20), silence(1)]))
    found = stretches(heard, "words")
    most = round((longest or 500) / 1000 * RATE)
    assert len(found) > 2 and all(a[1] == b[0] for a, b in pairwise(found))
    assert all(most - BLOCK < end - start <= most for start, end, _ in found[:-1])


def test_reset_and_errors_in_use(files):
    cascade = two(files)
    stream = cascade.stream()
    stream.push(AUDIO[: RATE * 2])
    stream.reset()
    stream.push(AUDIO)
    assert stream.flush().segments == cascade.hear(AUDIO).segments
    assert cascade.hear(silence(0)).text == ""


VOICE = {"file": "voice.onnx"}


@pytest.mark.parametrize(
    ("stages", "code", "words"),
    [
        ([VOICE], "SC095", "has 1 stages"),
        ([VOICE, VOICE], "SC095", "two stages of one name"),
        ([VOICE, {"name": "words"}], "SC095", "file of stage 1"),
        ([VOICE, {"file": "step.onnx", "preroll": 3}], "SC095", "says preroll"),
        ([VOICE, {"file": "step.onnx", "until": "step"}], "SC095", "until step"),
        ([VOICE, {"file": "step.onnx", "hang_over_ms": -1}], "SC095", "hang_over_ms = -1"),
        ([VOICE, {"file": "step.onnx", "options": [1]}], "SC095", "no object"),
        ([VOICE, {"file": "short.onnx", "pre_roll_ms": 600}], "SC095", "longer than it may be awake"),
        ([VOICE, {"file": "calls.onnx"}], "SC096", "neither tokens nor scores"),
        ([VOICE, {"file": "none.onnx"}], "SC010", "none.onnx"),
        ([VOICE, {"file": "step.onnx", "options": {"threshold": 2, "beams": 3}}], "SC053", "beams"),
        ([{"file": "whole-voice.onnx"}, {"file": "step.onnx"}], "SC050", "always awake"),
        ("voice.onnx", "SC095", "no list"),
    ],
)
def test_cascades_that_cannot_be(stages, code, words, files):
    path = files["voice"].parent / "cascade.json"
    path.write_text(json.dumps({"kind": "cascade", "stages": stages}))
    with pytest.raises(UsageError, match=words) as error:
        open_listener(path).hear(AUDIO)
    assert error.value.code == code


def test_one_sample_rate(files, tmp_path):
    other = emitted(levels(BLOCK), tmp_path / "step.onnx")
    manifest = json.loads((tmp_path / "step.onnx.json").read_text())
    (tmp_path / "step.onnx.json").write_text(json.dumps(manifest | {"sample_rate": 16000}))
    with pytest.raises(UsageError, match="words 16000") as error:
        Cascade.of([Stage("voice", files["voice"]), Stage("words", other)])
    assert error.value.code == "SC096"


def test_on_the_command_line(files, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", AUDIO, RATE, subtype="FLOAT")
    words = {"name": "words", "file": str(files["step"]), "pre_roll_ms": 100, "hang_over_ms": 200}
    about = {"kind": "cascade", "stages": [{"name": "voice", "file": str(files["voice"])}, words]}
    (tmp_path / "cascade.json").write_text(json.dumps(about))
    status, said, told = run("run", "cascade.json", "a.wav", cwd=tmp_path)
    assert status == 0 and [line.split("  ")[-1] for line in said.splitlines() if "words" in line] == [
        "words: one two one", "words: three one", "words: four two",
    ]  # fmt: skip
    assert "of the multiply-accumulates saved" in told and "voice" in told
    status, said, _ = run("run", "cascade.json", "a.wav", "--stream", "--json", cwd=tmp_path)
    lines = [json.loads(line) for line in said.splitlines()]
    assert status == 0 and lines[-1]["text"] == "one two one three one four two" and lines[-1]["final"]
    assert [s["stage"] for s in lines[-1]["usage"]["stages"]] == ["voice", "words"] and "usage" not in lines[0]
    assert FRAME < lines[0]["at_ms"] < lines[-1]["at_ms"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_real_files(tmp_path):
    """Silero VAD, the keyword spotter, the recogniser: it hears what follows the keyword, and as it does alone."""
    if (found := find_spec("silero_vad")) is None:
        pytest.skip("Silero VAD is not installed: pip install --no-deps silero-vad")
    front_end = "kaldi-fbank{bins=40,sample_rate=8000}+fixed{mean=14,std=4}"
    speechc.compile(
        Path(found.origin).parent / "data" / "silero_vad.jit", ["x=f32[1,256]", "sr=8000"], sample_rate=RATE,
        detect={"like": "silero", "least_ms": 0}, output=tmp_path / "vad.onnx",
    )  # fmt: skip
    speechc.compile(
        EXAMPLES / "keyword" / "model.pt", front_end=front_end, stream="30ms", output=tmp_path / "keyword.onnx"
    )
    speechc.compile(EXAMPLES / "digits" / "model.pt", output=tmp_path / "digits.onnx")
    cascade = Cascade.of(
        [
            Stage("voice", tmp_path / "vad.onnx"),
            Stage("keyword", tmp_path / "keyword.onnx", pre_roll_ms=300),
            Stage("digits", tmp_path / "digits.onnx", pre_roll_ms=700, until="voice"),
        ]
    )
    names = ("4096", "371", "58213", "82650", "7702")
    spoken = [read_audio(EXAMPLES / "digits" / "audio" / f"{n}.wav", RATE) for n in names]
    audio = np.concatenate([silence(8), *(np.pad(s, (0, 8 * RATE)) for s in spoken)])
    audio = (audio + 1e-3 * np.random.default_rng(0).standard_normal(len(audio))).astype(np.float32)
    heard, alone = cascade.hear(audio), open_listener(tmp_path / "digits.onnx")
    said = stretches(heard, "digits")
    assert [text[-3:] for *_, text in said] == ["7 1", "0 2"]  # of 371 and 7702; the others have no seven
    for start, end, text in said:
        assert alone.hear(audio[start:end]).text == text
    voice_, keyword, digits = heard.usage["stages"]
    assert (voice_["duty"], digits["wakes"], digits["calls"]) == (1, 2, 2)
    assert digits["duty"] < 0.2 < keyword["duty"] < 0.5 and heard.usage["saved"] > 0.5
    _, last = in_pieces(cascade, audio, 1)
    assert last.segments == heard.segments

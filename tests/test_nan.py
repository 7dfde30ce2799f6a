"""NaN is never an empty text, or silence, without a word: in audio, and in what a file gives."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from command import run
from models.levels import RATE, emitted, levels, speak, voice
from speechc.compiler.cascade import Cascade, Stage
from speechc.compiler.listen import open_listener
from speechc.ir.errors import UsageError
from speechc.passes.base import Context, make

AUDIO = speak("one two three")
KINDS = ("whole", "step", "numbers", "voice", "voice-step")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files that give numbers, and the same (`nan-…`) that give NaN; recordings."""
    made = tmp_path_factory.mktemp("files")
    for name, bias in (("", 0.0), ("nan-", math.nan)):
        modules = {"whole": levels(bias=bias), "step": levels(160, bias), "numbers": levels(bias=bias)}
        make("greedy-ctc{blank=0,output='scores'}").run(modules["numbers"].main, Context())
        for kind, chunk in (("voice", None), ("voice-step", 160)):
            modules[kind] = voice(chunk, bias, threshold=0.5)
        for kind, module in modules.items():
            emitted(module, made / f"{name}{kind}.onnx")
    soundfile.write(made / "a.wav", AUDIO, RATE)
    (made / "list.jsonl").write_text('{"audio": "a.wav", "text": "one two three"}\n')
    return made


def refused(code, call):
    with pytest.raises(UsageError) as error:
        call()
    assert error.value.code == code, error.value
    return error.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_audio_that_is_no_numbers(kind, bad, folder):
    """Networks may turn it into anything: a rectifier makes silence of it."""
    listener, audio = open_listener(folder / f"{kind}.onnx"), AUDIO.copy()
    audio[1000] = bad
    assert listener.hear(AUDIO).text in ("one two three", None)
    refused("SC032", lambda: listener.hear(audio))
    if listener.streams:
        refused("SC032", lambda: listener.stream().push(audio))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_gives_nan(kind, folder):
    listener = open_listener(folder / f"nan-{kind}.onnx")
    refused("SC091", lambda: listener.hear(AUDIO))
    if listener.streams:
        refused("SC091", lambda: listener.stream().push(AUDIO))


def test_a_frame_without_any_probability():
    from speechc.compiler.words import Greedy

    greedy = Greedy(["", "a"])
    scores = np.array([[[0, 1], [-np.inf, 0], [1, 0]]], np.float32)
    greedy.add(scores)
    assert greedy.text == "a"
    scores[0, 1] = -np.inf
    refused("SC091", lambda: greedy.add(scores))


@pytest.mark.parametrize("kind", KINDS)
def test_run_says_so(kind, folder):
    for more in ((), ("--stream",)) if "step" in kind else ((),):
        status, out, err = run("run", f"nan-{kind}.onnx", "a.wav", *more, cwd=folder)
        assert status == 2 and "SC091" in err and "NaN" in err and not out
    status, _, err = run("run", f"nan-{kind}.onnx", ".", cwd=folder)
    assert status == 2 and "SC057" in err and "NaN" in err


def test_eval_says_so(folder):
    status, _, err = run("eval", "whole.onnx", "nan-step.onnx", "--data", "list.jsonl", cwd=folder)
    assert status == 2 and "SC057" in err and "1 NaN" in err and "nan-step.onnx" in err


@pytest.mark.slow
def test_bench_says_so(folder):
    flags = ("--threads", "1", "--batch", "1", "--blocks", "1", "--runs", "1", "--seconds", "0.5", "--json")
    status, out, err = run("bench", "nan-voice.onnx", *flags, cwd=folder)
    assert status == 0 and "output voice has NaN" in json.loads(out)["files"][0]["notes"][0], err


def test_a_stage_of_a_cascade_says_so_with_its_name(folder):
    loud = Stage("ear", folder / "voice-step.onnx", pre_roll_ms=100)
    words = lambda name: Stage("words", folder / f"{name}.onnx", pre_roll_ms=100, hang_over_ms=200)
    assert "three" in Cascade.of([loud, words("step")]).hear(AUDIO).text
    for first, second, stage in (
        ("nan-voice-step", "step", "ear"), ("voice-step", "nan-step", "words"), ("voice-step", "nan-whole", "words"),
    ):  # fmt: skip
        cascade = Cascade.of([replace(loud, file=folder / f"{first}.onnx"), words(second)])
        assert f"stage {stage}: " in refused("SC091", lambda c=cascade: c.hear(AUDIO)).message
    audio = AUDIO.copy()
    audio[1000] = math.nan
    refused("SC032", lambda: Cascade.of([loud, words("step")]).hear(audio))


@pytest.mark.slow
def test_a_transducer_says_so(tmp_path):
    import speechc
    from models.transducer import parts

    speechc.compile(parts(), output=tmp_path)
    listener, audio = open_listener(tmp_path / "transducer"), np.zeros(3200, np.float32)
    audio[1000] = math.nan
    refused("SC032", lambda: listener.hear(audio))
    run_named = listener.session.run_named
    listener.session.run_named = lambda feeds: {n: a * np.float32(math.nan) for n, a in run_named(feeds).items()}
    assert "encoded" in refused("SC091", lambda: listener.hear(np.zeros(3200, np.float32))).message

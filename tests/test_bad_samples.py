"""Folders to calibrate with in which some recordings or arrays are bad: those are left out, counted and told."""

import io
import json

import numpy as np
import pytest
import soundfile
from command import run
from models.levels import RATE, levels, speak
from speechc.compiler import driver
from speechc.compiler.assembly.assemble import assemble
from speechc.compiler.assembly.build import build
from speechc.compiler.audio import read_samples
from speechc.compiler.recordings import Summary
from speechc.compiler.settings import Settings
from speechc.compiler.streaming import Streaming
from speechc.ir.errors import UsageError
from speechc.ir.text import save

SAID = "one two three"


def wav(samples, rate=RATE, **more):
    """The bytes of a recording."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", **more)
    return out.getvalue()


def array(**named):
    """The bytes of a file of arrays: a single one, or several by name."""
    out = io.BytesIO()
    if set(named) == {"alone"}:
        np.save(out, named["alone"])
    else:
        np.savez(out, **named)
    return out.getvalue()


WHOLE = wav(speak(SAID))
LOUD = np.clip(8 * np.sin(np.arange(4000) / 9), -1, 1)
BAD = {  # name: (bytes, code, kind)
    "a/cut.wav": (WHOLE[: len(WHOLE) * 2 // 3], "SC056", "cut off"),
    "empty.wav": (b"", "SC031", "empty"),
    "header.wav": (WHOLE[:44], "SC031", "empty"),
    "text.wav": (b"a sentence, not audio\n" * 30, "SC030", "not audio"),
    "nan.wav": (wav(np.full(800, np.nan, np.float32), subtype="FLOAT"), "SC032", "NaN in it"),
    "long.wav": (wav(speak("one two three four one two three")), "SC112", "does not fit the model"),
    "short.wav": (wav(speak("one")[:50]), "SC112", "does not fit the model"),
    "damaged.npy": (array(alone=speak(SAID)[None])[:-900], "SC030", "damaged"),
    "damaged.npz": (array(audio=speak(SAID)[None])[:-30], "SC030", "damaged"),
    "nan.npy": (array(alone=np.full((1, 900), np.nan, np.float32)), "SC032", "NaN in it"),
    "other.npz": (array(video=speak(SAID)[None]), "SC110", "does not fit the model"),
    "rank.npy": (array(alone=speak(SAID)), "SC111", "does not fit the model"),
}
GOOD = {
    "good.wav": (WHOLE, None),
    "good.npy": (array(alone=speak(SAID)[None]), None),
    "silent.wav": (wav(np.zeros(4000)), "silent"),
    "zeros.npy": (array(alone=np.zeros((1, 900), np.float32)), "silent"),
    "clipped.wav": (wav(LOUD), "clipped"),
}


@pytest.fixture
def place(tmp_path):
    """A model of at most half a second, and a folder of recordings, good ones and bad ones."""
    save(levels(most=4000), tmp_path / "levels.sir")
    filled(tmp_path / "r", BAD | GOOD)
    return tmp_path


def filled(folder, files):
    for name, (data, *_) in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def compiled(place, folder, *more):
    return run("levels.sir", "-o", "out.onnx", "--calibrate", folder, *more, cwd=place)


def test_bad_recordings_are_left_out_counted_and_told(place):
    status, out, err = compiled(place, "r", "--json")
    assert status == 0, err
    found = json.loads(out)["calibration"]
    assert {e["audio"]: (e["code"], e["reason"]) for e in found["left_out"]} == {n: b[1:] for n, b in BAD.items()}
    assert (found["recordings"], found["used"]) == (len(BAD) + len(GOOD), len(GOOD))
    assert found["notes"] == {"silent": 2, "clipped": 1}
    made = json.loads((place / "out.onnx.json").read_text())["made"]
    assert made["calibration"]["samples"] == len(GOOD)


def test_a_person_is_told_too(place):
    status, _, err = compiled(place, "r")
    assert status == 0 and f"calibrated with {len(GOOD)} of {len(BAD) + len(GOOD)} recordings" in err
    for name, (_, code, kind) in BAD.items():
        assert f" {name} " in err and code in err and kind in err
    assert "long.wav" in err and "the model takes 80 to 4000" in err
    for name, (_, kind) in GOOD.items():
        assert (name in err) == (kind is not None)


def test_folders_with_nothing_to_calibrate_with(place):
    status, _, err = compiled(place, filled(place / "bad", BAD))
    assert status == 2 and f"SC057]: none of {len(BAD)} recordings can be used" in err
    assert "2 empty" in err and "cut.wav" in err
    silent = {n: g for n, g in GOOD.items() if g[1] == "silent"}
    status, _, err = compiled(place, filled(place / "silent", silent | BAD))
    assert status == 2 and "SC057" in err and "all 2 recordings" in err and "silent" in err
    assert not (place / "out.onnx").exists()


def test_a_file_alone_says_what_is_wrong_with_it(place):
    for name, (_, code, _) in BAD.items():
        status, _, err = compiled(place, f"r/{name}")
        assert status == 2 and code in err and "SC057" not in err, name


def test_audio_for_a_model_whose_rate_nobody_knows_ends_at_once(place):
    with pytest.raises(UsageError) as error:
        list(read_samples(place / "r", None))
    assert error.value.code == "SC034"


def test_word_errors_leave_out_what_cannot_be_heard(place):
    texts = dict.fromkeys(("good.wav", "a/cut.wav", "text.wav", "long.wav", "gone.wav"), SAID) | {"clipped.wav": " "}
    lines = [json.dumps({"audio": name, "text": text}) for name, text in texts.items()]
    (place / "r" / "texts.jsonl").write_text("\n".join(lines))
    status, out, err = compiled(place, "r", "--json")
    assert status == 0, err
    words = json.loads(out)["word_errors"]
    assert words["recordings"] == 1 and words["left_out"] == 5 and set(words["rates"].values()) == {0.0}
    assert words["reasons"] == {
        "cut off": 1, "not audio": 1, "too long": 1, "missing": 1, "text with nothing in it": 1,
    }  # fmt: skip


def test_summaries_are_of_what_was_asked_for(place):
    found = Summary()
    paths = [place / "r" / name for name in ("good.wav", "empty.wav")]
    taken = list(read_samples(place / "r", RATE, lambda name, sample: name, found, paths))
    assert taken == ["good.wav"] and (found.recordings, found.used) == (2, 1)


@pytest.mark.slow
def test_parts_behind_an_encoder_hear_the_same_recordings(tmp_path):
    """The first part reads the folder and tells of it; those behind hear what is left, and count nothing again."""
    from models.transducer import parts  # imports torch

    noise = np.random.default_rng(0).standard_normal(3200) * 0.1
    bad = {n: b for n, b in BAD.items() if b[1] in ("SC056", "SC031", "SC030")}
    folder = filled(tmp_path / "r", bad | {"noise.wav": (wav(noise),), "more.wav": (wav(noise[::-1]),)})
    settings = Settings(precision="int8", calibration=folder, output=tmp_path, streaming=Streaming(stream="80ms"))
    reports = build(assemble(parts()), settings).reports
    told = {name: r.calibration for name, r in reports.items() if r.calibration is not None}
    assert list(told) == ["encoder"] and told["encoder"].used == 2
    assert {e.name for e in told["encoder"].left_out} == set(bad)
    assert driver.manifest_of(reports["predictor"].artefact).made["calibration"]["samples"] == 2


def test_verify_takes_others_in_the_place_of_those_that_cannot_be_used(place):
    assert run("levels.sir", "-o", "out.onnx", "-q", cwd=place)[0] == 0
    fits = {"long.wav", "short.wav"}  # are cut, or repeated, to what both take
    bad = {name: b[1] for name, b in BAD.items() if name not in fits}
    status, out, err = run("verify", "levels.sir", "out.onnx", "--audio", "r", "--most", "20", "--json", cwd=place)
    assert status == 0, err
    found = json.loads(out)
    assert {t["name"] for t in found["trials"]} == GOOD.keys() | fits
    assert {e["audio"]: e["code"] for e in found["recordings"]["left_out"]} == bad
    assert found["recordings"]["notes"] == {"silent": 3, "clipped": 1} and f"{len(bad)} left out" in found["audio"]
    more = ("--audio", "r", "--most", "2", "--outputs-only")
    status, _, err = run("verify", "levels.sir", "out.onnx", *more, cwd=place)  # of cut.wav and zeros.npy, say
    assert status == 0 and "2 of 17 recordings in r, 1 left out" in err
    assert "cut.wav" in err and "zeros.npy" in err and "silent" in err and "good.npy" not in err


def test_verify_with_nothing_to_compare_on(place):
    assert run("levels.sir", "-o", "out.onnx", "-q", cwd=place)[0] == 0
    filled(place / "bad", {n: b for n, b in BAD.items() if b[2] != "does not fit the model"})
    status, _, err = run("verify", "levels.sir", "out.onnx", "--audio", "bad", cwd=place)
    assert status == 2 and "SC057" in err and "2 empty" in err
    status, _, err = run("verify", "levels.sir", "out.onnx", "--audio", "r/a/cut.wav", cwd=place)
    assert status == 2 and "SC056" in err

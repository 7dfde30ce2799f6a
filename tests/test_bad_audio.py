"""Bad recordings: every one is told apart, counted and left out or warned about, and none ends in a traceback."""

import io
import json
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from command import run
from models.levels import RATE, emitted, levels, speak, voice
from speechc.compiler.audio import read_audio
from speechc.compiler.pipe import LivePipe, read_pipe
from speechc.compiler.recordings import clipped, read_recording
from speechc.compiler.riff import read_header
from speechc.ir.errors import UsageError

SAID = "one two three"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {
        "whole": emitted(levels(), folder / "whole.onnx"),
        "step": emitted(levels(160), folder / "step.onnx"),
        "short": emitted(levels(most=4000), folder / "short.onnx"),
        "voice": emitted(voice(threshold=0.5), folder / "voice.onnx"),
    }


def wav(samples, rate=RATE, **more):
    """The bytes of a recording."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=more.pop("format", "WAV"), **more)
    return out.getvalue()


def promising(size):
    """A WAV whose header says that its audio has `size` bytes."""
    data = bytearray(wav(speak(SAID)))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    return bytes(data)


WHOLE = wav(speak(SAID))
STEREO = np.stack([speak(SAID)] * 2, 1)
BAD = {  # name: (bytes, code or None, kinds of notes)
    "good.wav": (WHOLE, None, set()),
    "empty.wav": (b"", "SC031", set()),
    "header.wav": (WHOLE[:44], "SC031", set()),
    "half-header.wav": (WHOLE[:30], "SC030", set()),
    "text.wav": (b"this is not audio at all, it is a sentence\n" * 30, "SC030", set()),
    "random.wav": (np.random.default_rng(0).bytes(5000), "SC030", set()),
    "picture.flac": (b"\x89PNG\r\n\x1a\n" + bytes(500), "SC030", set()),
    "one-sample.wav": (wav(np.zeros(1), 96000), "SC031", set()),
    "nan.wav": (wav(np.full(800, np.nan, np.float32), subtype="FLOAT"), "SC032", set()),
    "cut.wav": (WHOLE[: len(WHOLE) * 2 // 3], None, {"cut off"}),
    "cut.flac": (wav(speak(SAID), format="FLAC")[:-300], "SC030", set()),
    "unknown-size.wav": (promising(0xFFFFFFFF), None, set()),
    "piped-size.wav": (promising(0x7FFFF000), None, set()),
    "silent.wav": (wav(np.zeros(4000)), None, {"silent"}),
    "offset.wav": (wav(np.full(4000, 0.3)), None, {"silent"}),
    "clipped.wav": (wav(np.clip(8 * np.sin(np.arange(4000) / 9), -1, 1)), None, {"clipped"}),
    "loud.wav": (wav(0.99 * np.sin(np.arange(4000) / 9)), None, set()),
    "stereo.wav": (wav(STEREO), None, {"several channels"}),
    "against.wav": (wav(STEREO * [1, -1]), None, {"several channels", "silent"}),
    "44k.wav": (wav(speak(SAID, 44100), 44100), None, {"resampled"}),
    "8-bit.wav": (wav(speak(SAID), subtype="PCM_U8"), None, set()),
    "8-bit-clipped.wav": (wav(np.clip(8 * np.sin(np.arange(4000) / 9), -1, 1), subtype="PCM_U8"), None, {"clipped"}),
    "24-bit.wav": (wav(speak(SAID), subtype="PCM_24"), None, set()),
    "float.wav": (wav(speak(SAID), subtype="FLOAT"), None, set()),
    "a-law.wav": (wav(speak(SAID), subtype="ALAW"), None, set()),
    "long-chunk.wav": (WHOLE[:12] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + WHOLE[12:], None, set()),
}
SPEAK = ("good", "unknown-size", "piped-size", "stereo", "44k", "8-bit", "24-bit", "float", "a-law", "long-chunk")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "bad"
    made.mkdir()
    for name, (data, *_) in BAD.items():
        (made / name).write_bytes(data)
    (made / "folder.wav").mkdir()
    (made / "gone.wav").symlink_to(made / "nowhere.wav")
    return made


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_recording(name, tmp_path):
    data, code, notes = BAD[name]
    (tmp_path / name).write_bytes(data)
    for source in (tmp_path / name, data):
        if code is not None:
            with pytest.raises(UsageError) as error:
                read_recording(source, RATE, name)
            assert error.value.code == code and name in str(error.value)
        else:
            recording = read_recording(source, RATE, name)
            assert {n.kind for n in recording.notes} == notes, recording.notes
            assert recording.samples.dtype == np.float32 and recording.samples.ndim == 1


def test_a_recording_that_is_cut_off_is_not_read_as_if_it_were_whole(tmp_path):
    """libsndfile reads what there is and says nothing: the header has to be asked."""
    data, *_ = BAD["cut.wav"]
    (tmp_path / "cut.wav").write_bytes(data)
    (note,) = read_recording(tmp_path / "cut.wav", None).notes
    assert note.text == "its header promises 0.28 s, there are 0.19 s"
    with pytest.raises(UsageError, match="cut off") as error:
        read_audio(tmp_path / "cut.wav", RATE)
    assert error.value.code == "SC056"
    large = bytearray(data)  # RF64: the size is in another chunk
    large[:4] = b"RF64"
    at = large.index(b"data") + 4
    (size,) = struct.unpack("<I", large[at : at + 4])
    large[at : at + 4] = b"\xff" * 4
    large[12:12] = b"ds64" + struct.pack("<IQQQI", 28, len(large), size, 0, 0)
    assert read_header(io.BytesIO(large)).promised == size
    mp3 = wav(np.sin(np.arange(16000) / 9), format="MP3")
    assert read_recording(mp3[: len(mp3) // 2], RATE, "x").has("cut off")


def test_clipping_is_counted():
    runs = np.array([0, 1, 1, 1, 0, -1, -1, 0, -1, -1, -1, -1, 0.5, 0.5, 0.5, 1.2, 1.3, 1.4], np.float32)
    assert clipped(runs[:, None]) == 3 + 4 + 3  # two alike are a peak; over full scale is full scale
    assert clipped(np.array([[1.0]], np.float32)) == 0
    assert clipped(np.array([[0.9991, 0.9995, 0.9992, 0.9993, 0.9994]], np.float32).T) == 0  # loud, and whole


def test_channels_and_rates_do_not_change_the_text(folder, files):
    status, out, _ = run("run", files["whole"], folder, "-q", cwd=folder.parent)
    heard = dict(line.split(": ", 1) for line in out.splitlines())
    assert status == 0
    assert {n for n, text in heard.items() if text == SAID} == {f"{name}.wav" for name in SPEAK}
    assert heard["cut.wav"] == "one two" and heard["against.wav"] == ""


def test_a_folder_with_bad_recordings(folder, files):
    for file, more in (("whole", ()), ("step", ("--stream",))):
        status, out, err = run("run", files[file], folder, *more, cwd=folder.parent)
        assert status == 0 and "Traceback" not in err
        bad = [name for name, (_, code, _) in BAD.items() if code] + ["gone.wav"]
        assert not [name for name in bad if name in out]
        assert f"{len(BAD) + 1 - len(bad)} of {len(BAD) + 1} recordings" in err
        for name in bad:
            (line,) = [x for x in err.splitlines() if f" {name} " in x]
            assert "SC0" in line
        for kind, name in (("cut off", "cut.wav"), ("silent", "silent.wav"), ("clipped", "clipped.wav")):
            assert kind in err and name in err
    status, out, _ = run("run", files["whole"], folder, "--json", cwd=folder.parent)
    lines = [json.loads(line) for line in out.splitlines()]
    assert {e["audio"]: e["code"] for e in lines[-1]["left_out"]} == {
        **{name: code for name, (_, code, _) in BAD.items() if code},
        "gone.wav": "SC010",
    }
    assert lines[-1]["used"] == len(lines) - 1 and lines[-1]["notes"]["silent"] == 3
    (cut,) = [line for line in lines if line.get("audio") == "cut.wav"]
    assert "promises" in cut["notes"]["cut off"]


SOME = ("good.wav", "empty.wav", "cut.wav", "clipped.wav", "none.wav", ".")


@pytest.mark.parametrize(
    "name", [n if n in SOME else pytest.param(n, marks=pytest.mark.slow) for n in (*BAD, "none.wav", ".")]
)
def test_one_recording(name, folder, files):
    code = {"none.wav": "SC010", ".": None}.get(name) if name not in BAD else BAD[name][1]
    status, out, err = run("run", files["whole"], folder / name, cwd=folder)
    assert (status, "error" in err) == ((2, True) if code else (0, False)) and (code or "") in err
    for kind in BAD.get(name, (0, 0, set()))[2] & {"cut off", "silent", "clipped"}:
        assert kind in err


def test_nothing_that_can_be_used(files, tmp_path):
    (tmp_path / "r").mkdir()
    assert run("run", files["whole"], "r", cwd=tmp_path)[0] == 2
    (tmp_path / "r" / "a.wav").write_bytes(b"")
    (tmp_path / "r" / "b.wav").write_bytes(b"x" * 99)
    status, _, err = run("run", files["whole"], "r", cwd=tmp_path)
    assert status == 2 and "none of 2 recordings" in err and "SC057" in err
    (tmp_path / "x.npz").write_bytes(b"not arrays")
    status, _, err = run("run", files["whole"], "x.npz", cwd=tmp_path)
    assert status == 2 and "SC030" in err


def test_a_recording_that_is_too_long(files, tmp_path):
    for name, text in (("a", "one two"), ("b", "one two three four one two three")):
        (tmp_path / f"{name}.wav").write_bytes(wav(speak(text)))
    status, out, err = run("run", files["short"], ".", cwd=tmp_path)
    assert status == 0 and out == "a.wav: one two\n" and "too long" in err and "b.wav" in err


# -- standard input --------------------------------------------------------------------------------------------------
def piped(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


RAW = (speak(SAID) * 32767).astype("<i2").tobytes()
QUICK = ("good.wav", "cut.wav", "against.wav", "44k.wav")
SIMPLE = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BAD if BAD[name][1] is None]


@pytest.mark.parametrize("name", SIMPLE)
def test_a_pipe_is_a_recording(name, files, monkeypatch, tmp_path):
    data, _, notes = BAD[name]
    expected = run("run", files["whole"], _file(tmp_path / name, data), cwd=tmp_path)[1]
    piped(monkeypatch, data)
    assert run("run", files["whole"], "-", cwd=tmp_path)[:2] == (0, expected)
    piped(monkeypatch, data)
    status, out, err = run("run", files["step"], "-", "--stream", cwd=tmp_path)
    assert status == 0 and out.splitlines()[-1].partition(" s  ")[2] == expected.strip()
    assert all((kind in err) == (kind in notes) for kind in ("cut off", "silent", "clipped"))


def _file(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("more", [(), ("--stream",)])
def test_bare_samples(more, files, monkeypatch, tmp_path):
    piped(monkeypatch, RAW + b"\0")
    status, out, err = run("run", files["step"], "-", *more, cwd=tmp_path)
    assert status == 0 and out.splitlines()[-1].endswith(SAID)
    assert "taken as 16-bit little-endian mono at 8000 Hz" in err and "cut off" in err


@pytest.mark.parametrize("more", [(), ("--stream",)])
@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "SC031"), (b"\1", "SC031"), (b"some words\n" * 9, "SC030"), (BAD["header.wav"][0], "SC031"),
     (BAD["half-header.wav"][0], "SC030"), (BAD["nan.wav"][0], "SC032"), (b"fLaC" + bytes(99), "SC030")],
)  # fmt: skip
def test_a_pipe_without_audio(data, code, more, files, monkeypatch, tmp_path):
    piped(monkeypatch, data)
    status, _, err = run("run", files["step"], "-", *more, cwd=tmp_path)
    assert status == 2 and code in err, err


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_samples_as_they_come_are_those_of_libsndfile(subtype):
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, (1234, 2))
    data = wav(noise, subtype=subtype)
    live = LivePipe(io.BytesIO(data), RATE, 100)
    blocks = list(live)
    assert {len(b) for b in blocks} == {100, 34}
    np.testing.assert_array_equal(np.concatenate(blocks), read_recording(data, RATE, "x").samples)
    assert [n.kind for n in live.notes] == ["several channels"]


def test_results_come_before_the_pipe_ends(files):
    """A live source: the first words are out when no more than their samples are in."""
    from speechc.compiler.listen import open_listener
    from speechc.compiler.run_many import PIPE, run_all

    class Counting(io.BytesIO):
        def read(self, size=-1):
            assert size >= 0
            return super().read(size)

    source = Counting(wav(speak("one two three four")))
    found = run_all(open_listener(files["step"]), PIPE, stream=True, stdin=source)
    first = next(found)[1]
    assert first.text == "one" and source.tell() < 44 + 2 * 800
    assert [h.text for _, h in found][-1] == "one two three four"


def test_a_pipe_at_another_rate(tmp_path):
    data = wav(speak(SAID, 44100), 44100)
    whole, live = read_pipe(io.BytesIO(data), RATE), LivePipe(io.BytesIO(data), RATE, 160)
    samples = np.concatenate(list(live))
    assert len(samples) == len(whole.samples) and [n.kind for n in live.notes] == ["resampled"]
    np.testing.assert_allclose(samples, whole.samples, atol=1e-5)  # soxr in pieces: float32 sums in another order

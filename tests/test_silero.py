"""Silero VAD as a listener: its own file with state, found segments as its authors' tools find them.

Wants the package: `pip install --no-deps silero-vad`.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command import run
from speechc.compiler.audio import read_audio
from speechc.compiler.listen import open_listener

AUDIO = Path(__file__).parent.parent / "examples" / "digits" / "audio"
CHUNK = {8000: 256, 16000: 512}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")]


@pytest.fixture(scope="module")
def data():
    if find_spec("silero_vad") is None:
        pytest.skip("Silero VAD is not installed: pip install --no-deps silero-vad")
    return Path(find_spec("silero_vad").origin).parent / "data"


def theirs(data, audio, rate):
    """Probabilities of chunks from the authors' ONNX file; the last chunk has silence behind."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(data / "silero_vad.onnx", providers=["CPUExecutionProvider"])
    size, out = CHUNK[rate], []
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, size // 8), np.float32)
    for chunk in np.pad(audio, (0, -len(audio) % size)).reshape(-1, 1, size):
        x = np.concatenate([context, chunk], 1)
        p, state = session.run(None, {"input": x, "state": state, "sr": np.array(rate, np.int64)})
        context = x[:, -size // 8 :]
        out.append(float(p[0, 0]))
    return out


@pytest.mark.parametrize(("target", "rate"), [("onnx", 16000), ("onnx", 8000), ("tflite", 16000)])
def test_segments_as_its_authors_find_them(target, rate, data, tmp_path):
    from silero_vad.utils_vad import get_speech_timestamps_from_probs

    path = tmp_path / f"vad.{target}"
    status, _, errors = run(
        data / "silero_vad.jit", "--target", target, "--input", f"x=f32[1,{CHUNK[rate]}]", "--input", f"sr={rate}",
        "--sample-rate", rate, "--detect", "like=silero,labels=speech", "-o", path, "-q", cwd=tmp_path,
    )  # fmt: skip
    assert status == 0, errors
    assert json.loads(Path(f"{path}.json").read_text())["meta"]["detect"] == {"like": "silero", "labels": ["speech"]}
    listener = open_listener(path)
    assert (listener.kind, listener.streams, listener.chunk_samples) == ("scores", True, CHUNK[rate])
    parts = [np.pad(read_audio(p, rate), (0, rate * 2 // 5)) for p in sorted(AUDIO.glob("*.wav"))[:4]]
    audio = np.concatenate(parts)
    audio = (audio + 1e-3 * np.random.default_rng(0).standard_normal(len(audio))).astype(np.float32)
    wanted = theirs(data, audio, rate)
    heard = listener.hear(audio)
    assert np.abs(next(iter(heard.outputs.values())).reshape(-1) - wanted).max() <= 1e-5
    spans = get_speech_timestamps_from_probs(wanted, rate, audio_length_samples=len(audio))
    assert len(spans) == len(heard.segments) >= 4
    found = [(s.start * rate, s.end * rate) for s in heard.segments]
    np.testing.assert_allclose(found, [(s["start"], s["end"]) for s in spans], atol=1.01)  # they round to samples
    stream, at, rng = listener.stream(), 0, np.random.default_rng(1)
    while at < len(audio):
        size = int(rng.integers(1, 3000))
        stream.push(audio[at : at + size])
        at += size
    assert stream.flush().segments == heard.segments


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_int8_follows_its_states(target, data, tmp_path):
    path = tmp_path / f"vad.{target}"
    status, said, errors = run(
        data / "silero_vad.jit", "--target", target, "--input", "x=f32[1,512]", "--input", "sr=16000",
        "--sample-rate", "16000", "--int8", "--calibrate", AUDIO, "-o", path, "--json", cwd=tmp_path,
    )  # fmt: skip
    assert status == 0, errors
    quantized = [r for r in json.loads(said)["remarks"] if "linear in integers" in r]
    scales = sorted(float(r.split("input scale ")[1].split(",")[0]) for r in quantized)
    assert len(scales) == 2 and scales[0] < 2 / 255  # the hidden state, within ±1: it is 0 in all first calls
    audio = np.concatenate([read_audio(p, 16000) for p in sorted(AUDIO.glob("*.wav"))[:4]])
    audio = audio[: len(audio) // 512 * 512]
    found, wanted = next(iter(open_listener(path).hear(audio).outputs.values())).reshape(-1), theirs(data, audio, 16000)
    assert 10 * np.log10(np.sum(np.square(wanted)) / np.sum((found - wanted) ** 2)) >= 20  # as the proof wants it


def test_run_prints_speech(data, tmp_path):
    status, _, errors = run(
        data / "silero_vad.jit", "--input", "x=f32[1,256]", "--input", "sr=8000", "--sample-rate", "8000",
        "-o", "vad.onnx", "-q", cwd=tmp_path,
    )  # fmt: skip
    assert status == 0, errors
    flags = "--decode", "like=silero", "--labels", "voice"
    status, said, errors = run("run", "vad.onnx", AUDIO / "371.wav", *flags, cwd=tmp_path)
    assert status == 0 and said and all(" voice " in line for line in said.splitlines()), errors

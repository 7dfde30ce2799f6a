"""One streaming graph, on every target: one session interface, one manifest format, state as each target keeps it."""

import json
from pathlib import Path

import numpy as np
import pytest
import speechc
import torch
from speechc.compiler.audio import read_samples
from speechc.lowering.manifest import manifest_path
from speechc.lowering.target import available
from torch import nn

DIGITS = Path(speechc.__file__).parent / "examples" / "digits"
TARGETS = ("onnx", "tflite", "coreml", "tensorrt")
SUFFIX = {"onnx": "onnx", "tflite": "tflite", "coreml": "mlpackage", "tensorrt": "engine"}
# float32: the order of sums. float16 has eleven bits a number, int8 eight: what a compilation accepts, in dB.
LEAST_SNR = {"float32": 90.0, "float16": 40.0}


class Spotter(nn.Module):
    """features [B, T, 16] -> the probability of each of 4 words so far [B, T, 4]: causal convolution and a GRU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(16, 24, 5)
        self.gru = nn.GRU(24, 24, batch_first=True)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        y = torch.relu(self.conv(nn.functional.pad(x.transpose(1, 2), (4, 0)))).transpose(1, 2)
        return self.head(self.gru(y)[0]).sigmoid()


def digits(folder, **more):
    recording = next(iter(read_samples(DIGITS / "audio", 16000)))
    made = speechc.compile_all(
        DIGITS / "model.pt", targets=TARGETS, output=folder, stream="640ms", attention="chunk:640ms,left=2560ms",
        conv="chunk", **more,
    )  # fmt: skip
    return made, recording[:, : 3 * 16000 + 123]


def spotter(folder, **more):
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((1, 75, 16), dtype=np.float32)
    made = speechc.compile_all(
        Spotter().eval(), {"x": x}, targets=TARGETS, output=folder, name="spotter", frame_shift="10ms", stream="80ms",
        **more,
    )  # fmt: skip
    return made, x


MODELS = {"digits": digits, "spotter": spotter}


@pytest.fixture(scope="module", params=[(m, p) for m in MODELS for p in (None, "float32", "float16")], ids=str)
def compiled(request, tmp_path_factory):
    """(files by target, a recording, the folder) of one model, each target's default precision or one for all."""
    name, precision = request.param
    folder = tmp_path_factory.mktemp(name)
    return *MODELS[name](folder, precision=precision), folder


def snr(actual, expected):
    noise = np.sum((actual - expected) ** 2, dtype=np.float64)
    return np.inf if noise == 0 else 10 * np.log10(np.sum(expected**2, dtype=np.float64) / noise)


def streamed(session, x, sizes):
    pieces, at = [], 0
    for size in sizes:
        pieces.append(session.push(x[:, at : at + size])[0])
        at += size
    pieces += [session.push(x[:, at:])[0], session.flush()[0]]
    return np.concatenate(pieces, 1)


def test_every_target_is_here():
    assert set(TARGETS) <= set(available())


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_one_interface(compiled, target):
    """Pushed in pieces, flushed, reset and pushed otherwise: every target gives what ONNX in float32 gives."""
    made, x, _ = compiled
    exact = streamed(made["onnx"].stream(), x, [])
    session, least = made[target].stream(), LEAST_SNR[made[target].manifest.precision]
    once = streamed(session, x, [x.shape[1] // 3, 1, 17])
    assert once.shape == exact.shape
    assert snr(once, exact) > least - (3 if made["onnx"].manifest.precision == "float16" else 0)  # two roundings
    session.reset()
    again = streamed(session, x, [x.shape[1] // 2])
    np.testing.assert_array_equal(once, again)  # nothing is left of the first stream, pieces do not matter


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_one_manifest(compiled, target):
    """Chunk, rates, delays, flushing, ports and states are told as for ONNX; how a state is laid out may differ."""
    made, _, folder = compiled
    assert made[target].path.parent == folder and made[target].path.suffix == f".{SUFFIX[target]}"
    own, onnx = (json.loads(manifest_path(made[name].path).read_text()) for name in (target, "onnx"))
    assert own["target"] == target and own["format"] == onnx["format"] == 1
    told = lambda data: {k: v for k, v in data["streaming"].items() if k != "state_bytes"}
    ports = lambda data: [
        (p["name"], p["dtype"], p["shape"], p["time"]) for g in ("inputs", "outputs") for p in data[g]
    ]
    elements = lambda data: {s["name"]: (int(np.prod(s["shape"])), s["initial"]) for s in data["states"]}
    assert told(own) == told(onnx) and ports(own) == ports(onnx)
    assert elements(own) == elements(onnx)

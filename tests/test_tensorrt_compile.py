"""Whole compilations for TensorRT, proof included: recurrent spotters and the digits model, whole and by chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import speechc
import torch
from speechc.lowering.manifest import Manifest, manifest_path
from speechc.lowering.tensorrt.precisions import PRECISIONS
from torch import nn

DIGITS = Path(speechc.__file__).parent / "examples" / "digits"
rng = np.random.default_rng(0)


class Spotter(nn.Module):
    """A causal convolution, two recurrent layers, scores a frame."""

    def __init__(self, recurrence):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(40, 64, 5)
        self.rnn = recurrence(64, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, 12)

    def forward(self, x):
        y = torch.relu(self.conv(nn.functional.pad(x.transpose(1, 2), (4, 0)))).transpose(1, 2)
        return self.head(self.rnn(y)[0])


@pytest.mark.slow
@pytest.mark.parametrize("stream", [None, "80ms"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("recurrence", [nn.GRU, nn.LSTM])
def test_spotter(recurrence, precision, stream, tmp_path):
    """In half precision the loops stay in float32, behind casts that TensorRT-RTX must not draw into them."""
    frames = lambda n: {"x": rng.standard_normal((1, n, 40), dtype=np.float32)}
    more = {"calibration": [frames(100) for _ in range(3)]} if precision.startswith("int8") else {}
    more |= {"frame_shift": "10ms", "stream": stream} if stream else {}
    made = speechc.compile(Spotter(recurrence).eval(), frames(120), target="tensorrt", precision=precision,
                           output=tmp_path, name="spotter", **more)  # fmt: skip
    assert made.report["snr"] >= {"float32": 100, "float16": 50}.get(precision, 30)
    manifest = Manifest.load(manifest_path(tmp_path / "spotter.engine"))
    layers = manifest.meta["tensorrt"]["layers"]
    width = "f16" if precision.endswith("float16") else "f32"
    assert layers[f"CONVOLUTION {width}"] == 1 and layers["RECURRENCE f32"] == (2 if recurrence is nn.GRU else 4)
    assert len(manifest.states) == (3 if recurrence is nn.GRU else 5) * bool(stream)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8+float16"])
@pytest.mark.parametrize("streamed", [False, True])
def test_digits(precision, streamed, tmp_path):
    more = {"stream": "640ms", "attention": "chunk:640ms,left=2560ms", "conv": "chunk"} if streamed else {}
    more |= {"calibration": DIGITS / "audio"} if precision.startswith("int8") else {}
    made = speechc.compile(DIGITS / "model.pt", target="tensorrt", precision=precision, output=tmp_path, **more)
    facts = Manifest.load(manifest_path(tmp_path / "model.engine")).meta["tensorrt"]
    assert {Path(f).name for f in made.report["files"]} == {"model.engine", "model.engine.onnx", "model.engine.json"}
    assert bool(facts["profile"]) != streamed
    if precision != "float32":
        assert facts["layers"]["MATRIX_MULTIPLY f16"] > 40 and facts["layers"]["QUANTIZE i8"] > 30

"""`speechc verify` of a model with states of its own: recordings are played to the end, call by call."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import speechc
import torch
from speechc.compiler.driver import read_subject
from speechc.compiler.verify.verify import Asked, verify
from speechc.lowering.manifest import Manifest, manifest_path
from torch import nn

AUDIO = Path(speechc.__file__).parent / "examples" / "digits" / "audio" / "371.wav"  # 18,942 samples


class Held(nn.Module):
    """x f32[1, 512] -> f32[1, 1]: a loudness that forgets slowly."""

    def __init__(self):
        super().__init__()
        self.register_buffer("held", torch.zeros(1, 1))

    def forward(self, x):
        now = 0.9 * self.held + 0.1 * x.abs().mean(1, keepdim=True)
        self.held.copy_(now)
        return now


def subject():
    return read_subject(Held().eval(), {"x": np.ones((1, 512), np.float32)}, time_axis={})


@pytest.mark.slow
@pytest.mark.parametrize("audio", [None, AUDIO])
def test_a_state_that_stands_still_is_noticed(audio, tmp_path):
    made = speechc.compile(
        Held().eval(), {"x": np.ones((1, 512), np.float32)}, time_axis={}, output=tmp_path / "held.onnx"
    )
    asked = Asked(audio=audio, sample_rate=8000)
    good = verify(subject(), "held", made.path, asked)
    assert good.error() is None and good.trials[-1].lengths == {"calls": 4 if audio is None else 37}
    (state,) = Manifest.load(manifest_path(made.path)).states
    file = onnx.load(made.path)
    for node in file.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == state.output:
                    names[i] = "lost"
    file.graph.node.append(onnx.helper.make_node("Identity", [state.file_name], [state.output]))
    onnx.save(file, made.path)
    assert verify(subject(), "held", made.path, asked).error().code == "SC540"

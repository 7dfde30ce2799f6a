"""int8 on every target, calibrated and not: convolutions of all kinds and products, through the whole compilation."""

import numpy as np
import pytest
import speechc
import torch
from speechc.lowering.target import target
from torch import nn

FRAMES = 48


class Layers(nn.Module):
    """features [B, 16, T] -> [B, T, 8]: down, dilated, depthwise, up again, and a product."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv1d(16, 32, 4, 2, 1)
        self.dilated = nn.Conv1d(32, 32, 3, padding=4, dilation=4)
        self.depthwise = nn.Conv1d(32, 32, 5, padding=2, groups=32)
        self.point = nn.Conv1d(32, 32, 1)
        self.up = nn.ConvTranspose1d(32, 32, 4, 2, 1)
        self.hidden, self.out = nn.Linear(32, 64), nn.Linear(64, 8)

    def forward(self, x):
        y = torch.relu(self.down(x))
        y = self.point(torch.relu(self.depthwise(torch.relu(self.dilated(y)))))
        return self.out(torch.relu(self.hidden(torch.relu(self.up(y)).transpose(1, 2))))


CASES = [(t, p) for t in ("onnx", "tflite", "coreml", "tensorrt") for p in target(t).precisions if "int8" in p]


def compiled(name, precision, calibrated, folder):
    torch.manual_seed(0)
    x = lambda seed: np.random.default_rng(seed).standard_normal((1, 16, FRAMES), dtype=np.float32)
    return speechc.compile(
        Layers().eval(), {"x": x(0)}, 2, name, precision, [(x(i),) for i in range(1, 5)] if calibrated else None, folder
    )


@pytest.mark.slow
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize(("name", "precision"), CASES)
def test_layers(name, precision, calibrated, tmp_path):
    """Eight bits a weight and, calibrated, an activation: 30 dB is what six layers of them leave."""
    made = compiled(name, precision, calibrated, tmp_path)
    assert 30 < made.report["snr"] < 90  # something is quantized


@pytest.mark.slow
@pytest.mark.parametrize("calibrated", [False, True])
def test_core_ml_reads_weights_of_8_bits_as_constants(calibrated, tmp_path):
    """A cast between the codes and their op would be done again in every prediction."""
    from speechc.lowering.coreml.mil_file import read, walk

    ops = list(walk(read(compiled("coreml", "int8", calibrated, tmp_path).path).block))
    makers = {name: op.kind for op in ops for name, _ in op.outputs}
    weights = [op.inputs["weight"][0] for op in ops if op.kind in ("conv", "conv_transpose", "linear")]
    kinds = [makers[v.text] for v in weights if hasattr(v, "text")]
    assert len(kinds) >= 6 and set(kinds) <= {"const", "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"}
    assert sum(kind.startswith("constexpr") for kind in kinds) >= 5

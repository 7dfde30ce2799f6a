"""8-bit inputs and outputs: the file takes and gives integers, and the manifest says on which grid."""

import numpy as np
import pytest
import speechc
from speechc.compiler.numerics import difference
from speechc.ir.errors import UsageError
from speechc.ir.registry import quantized


def network():
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = nn.Conv1d(40, 64, 5, padding=2), nn.ReLU(), nn.Conv1d(64, 64, 1), nn.ReLU(), nn.Conv1d(64, 12, 1)
    return nn.Sequential(*layers).eval(), torch.randn(1, 40, 100)


@pytest.mark.parametrize("target", ["onnx", "tflite"])
@pytest.mark.slow
def test_integers_in_and_out(target, tmp_path):
    import torch

    module, x = network()
    made = speechc.compile(
        module, {"input": x}, 2, target, "int8", [(x,)], tmp_path, name="net", integer_ports=True
    )  # fmt: skip
    (taken,), (given,) = made.manifest.inputs, made.manifest.outputs
    assert taken.dtype == given.dtype == "i8"
    for length in (100, 37):
        part = x[:, :, :length]
        stored = quantized(part.numpy(), "i8", taken.quant[0], int(taken.quant[1]))
        (codes,) = made.run(stored)
        assert codes.dtype == np.int8
        real = (codes.astype(np.float32) - given.quant[1]) * np.float32(given.quant[0])
        with torch.no_grad():
            # Five 8-bit grids in a row, each half a step off at most.
            assert difference([real], [module(part).numpy()]).snr > 25


@pytest.mark.slow
def test_they_want_fixed_scales(tmp_path):
    module, x = network()
    with pytest.raises(UsageError, match="--calibrate"):
        speechc.compile(module, {"input": x}, 2, "tflite", "int8", output=tmp_path, integer_ports=True)

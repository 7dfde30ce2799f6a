"""TorchScript files for tests."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

TOLERANCE = 1e-5  # of the largest output: float32 sums in another order


def save(module: nn.Module, path: Path, how="script", samples=()) -> Path:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        made = torch.jit.script(module) if how == "script" else torch.jit.trace(module, samples, check_trace=False)
        torch.jit.save(made, str(path))
    return path


def assert_close(want, got):
    assert want.shape == got.shape
    assert np.abs(want - got).max() <= TOLERANCE * np.abs(want).max()


class Wrapped(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)

"""Models that must be refused with a clear message."""

from __future__ import annotations

import torch
from torch import nn


class Failing(nn.Module):
    """Its forward raises."""

    def forward(self, x):
        raise ValueError("this model is broken on purpose")


class WantsRank3(nn.Module):
    """A convolution over [batch, 80, time]."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(80, 8, 3)

    def forward(self, x):
        return self.conv(x)


class UnknownOps(nn.Module):
    """Uses operators that nothing imports, in two modules."""

    class Inner(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    def __init__(self):
        super().__init__()
        self.inner = self.Inner()

    def forward(self, x):
        return torch.special.zeta(self.inner(x), x)


class Sine(nn.Module):
    """Captured without trouble."""

    def forward(self, x):
        return torch.sin(x) * 0.5


def failing() -> nn.Module:
    return Failing()


def rank3() -> nn.Module:
    torch.manual_seed(0)
    return WantsRank3()


def unknown_ops() -> nn.Module:
    return UnknownOps()


def nan_weights() -> nn.Module:
    model = WantsRank3()
    with torch.no_grad():
        model.conv.weight[0, 0, 0] = float("nan")
    return model


def sine() -> nn.Module:
    return Sine()

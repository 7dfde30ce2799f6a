"""A streaming keyword spotter: causal separable convolutions with mixed kernels, in the manner of microWakeWord's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE = 8000
BINS = 40  # log-mel bands of a frame
STRIDE = 3  # frames of 10 ms to a score
FRONT_END = "kaldi-fbank{bins=40,sample_rate=8000}+fixed{mean=14,std=4}"
KEYWORD = 7  # a digit

Kernels = Sequence[Sequence[int]]


class Causal(nn.Module):
    """A convolution over frames [N, channels, T] that sees no later ones: [N, channels, T // stride]."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True):
        super().__init__()
        self.before = kernel - stride
        self.conv = nn.Conv1d(into, out, kernel, stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (self.before, 0)))


class Mixed(nn.Module):
    """Depthwise convolutions, each kernel on its share of channels (MixConv, Tan and Le 2019), then a pointwise one."""

    def __init__(self, into: int, out: int, kernels: Sequence[int]):
        super().__init__()
        share = into // len(kernels)
        self.depthwise = nn.ModuleList(Causal(share, share, k, groups=share, bias=False) for k in kernels)
        self.pointwise = nn.Conv1d(into, out, 1, bias=False)
        self.norm = nn.BatchNorm1d(out)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(len(self.depthwise), 1)
        x = torch.cat([conv(part) for conv, part in zip(self.depthwise, parts)], 1)
        return torch.relu(self.norm(self.pointwise(x)))


class Keyword(nn.Module):
    """Features [N, T, 40] to the log-odds [N, T // 3, 1] that the keyword has just been said.

    `first`: channels of the first convolution, `channels` those of the others; `kernels` of every block; `last`: scores
    that the final layer looks at. The defaults are small; `NABU` and `ALEXA` have the sizes of files that
    pymicro-wakeword ships.
    """

    def __init__(
        self,
        first: int = 32,
        channels: int = 48,
        kernels: Kernels = ((5,), (9,), (13,), (21,)),
        last: int = 1,
    ):
        super().__init__()
        self.first = Causal(BINS, first, 5, STRIDE, bias=False)
        self.norm = nn.BatchNorm1d(first)
        widths = [first] + [channels] * len(kernels)
        self.blocks = nn.ModuleList(Mixed(a, b, k) for a, b, k in zip(widths, widths[1:], kernels))
        self.last = Causal(channels, 1, last)

    def forward(self, features: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(features.transpose(1, 2))))
        for block in self.blocks:
            x = block(x)
        return self.last(x).transpose(1, 2)


NABU = {"first": 64, "channels": 64, "kernels": ((3,), (5, 9), (7, 13), (9, 15), (17,)), "last": 1}
ALEXA = {"first": 32, "channels": 64, "kernels": ((5,), (9,), (13,), (21,)), "last": 5}

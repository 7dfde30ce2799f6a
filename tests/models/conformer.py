"""A Conformer-CTC (Gulati et al. 2020, plain attention) of any size, for tests and benchmarks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    def __init__(self, size: int, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.expand = nn.Linear(size, hidden)
        self.contract = nn.Linear(hidden, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(F.silu(self.expand(self.norm(x))))


class Attention(nn.Module):
    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(size)
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Convolution(nn.Module):
    def __init__(self, size: int, kernel: int):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.gate = nn.Conv1d(size, 2 * size, 1)
        self.depthwise = nn.Conv1d(size, size, kernel, padding=kernel // 2, groups=size)
        self.batch_norm = nn.BatchNorm1d(size)
        self.out = nn.Conv1d(size, size, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.gate(self.norm(x).transpose(1, 2)), dim=1)
        return self.out(F.silu(self.batch_norm(self.depthwise(x)))).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, size: int, heads: int, hidden: int, kernel: int):
        super().__init__()
        self.feed_in, self.feed_out = FeedForward(size, hidden), FeedForward(size, hidden)
        self.attention, self.convolution = Attention(size, heads), Convolution(size, kernel)
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.feed_in(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.feed_out(x))


class ConformerCTC(nn.Module):
    """features [B, T, F] -> log-probabilities [B, ((T - 1) // 2 - 1) // 2, tokens]."""

    def __init__(
        self,
        features: int = 80,
        size: int = 256,
        heads: int = 4,
        hidden: int = 2048,
        layers: int = 12,
        channels: int = 256,
        tokens: int = 500,
        kernel: int = 31,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, stride=2)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=2)
        self.project = nn.Linear(channels * (((features - 1) // 2 - 1) // 2), size)
        self.layers = nn.ModuleList(Block(size, heads, hidden, kernel) for _ in range(layers))
        self.output = nn.Linear(size, tokens)

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(features[:, None]))))
        x = self.project(x.transpose(1, 2).flatten(2))
        for layer in self.layers:
            x = layer(x)
        return self.output(x).log_softmax(-1)

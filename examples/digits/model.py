"""A small Conformer that turns 8 kHz audio into CTC log-probabilities over spoken digits."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLE_RATE = 8000
TOKENS = ["<blank>", *"0123456789"]  # token = digit + 1; token 0 is CTC's blank
FRAME = 320  # samples of one output frame (40 ms): hop 80, subsampled by 4


def mel_filters(bins: int, mels: int, low: float = 60.0, high: float = 3800.0) -> Tensor:
    """Triangular filters on the mel scale, [bins, mels], for `bins` frequencies from 0 Hz to 4 kHz."""

    def to_mel(hz: float) -> float:
        return 2595 * math.log10(1 + hz / 700)

    edges = 700 * (10 ** (torch.linspace(to_mel(low), to_mel(high), mels + 2, dtype=torch.float64) / 2595) - 1)
    frequency = torch.linspace(0, SAMPLE_RATE / 2, bins, dtype=torch.float64)[:, None]
    rise = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()


class LogMel(nn.Module):
    """Log-mel features, 100 frames a second, normalised by fixed statistics of the training set.

    Frame i is cut from the 256 samples that end before sample 80 * (i + 1), so no frame looks ahead, and T samples
    make exactly T // 80 frames. The window is 200 samples long and sits in the middle of the 256.
    """

    N_FFT, WINDOW, HOP = 256, 200, 80

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(self.WINDOW))
        self.register_buffer("filters", mel_filters(self.N_FFT // 2 + 1, mels))
        self.register_buffer("mean", torch.zeros(mels))
        self.register_buffer("std", torch.ones(mels))

    def forward(self, audio: Tensor) -> Tensor:
        """audio [B, T] at 8 kHz -> features [B, T // 80, mels]."""
        audio = F.pad(audio, (self.N_FFT - self.HOP, 0))
        spectrum = torch.stft(audio, self.N_FFT, self.HOP, self.WINDOW, self.window, center=False, return_complex=True)
        power = spectrum.abs().square().transpose(1, 2)
        return (torch.log(power @ self.filters + 1e-6) - self.mean) / self.std


class Subsample(nn.Module):
    """Two convolutions of stride 2: 10 ms feature frames become 40 ms frames, without look-ahead."""

    def __init__(self, mels: int, size: int, channels: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, kernel_size=3, stride=2)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=2)
        self.project = nn.Linear(channels * (mels // 4), size)

    def forward(self, features: Tensor) -> Tensor:
        """features [B, F, mels] -> [B, F // 4, size]."""
        # One frame of zeros on the left alone: output frame j ends with input frame 2j + 1.
        x = F.relu(self.conv1(F.pad(features[:, None], (1, 0, 1, 0))))
        x = F.relu(self.conv2(F.pad(x, (1, 0, 1, 0))))
        return self.project(x.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Norm, expand, SiLU, contract; the block adds half of it."""

    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.expand = nn.Linear(size, hidden)
        self.contract = nn.Linear(hidden, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, size] -> [B, N, size]."""
        x = self.dropout(F.silu(self.expand(self.norm(x))))
        return self.dropout(self.contract(x))


class Attention(nn.Module):
    """Multi-head self-attention without positions: the convolutions carry the order."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.output = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, N, size], mask [N, N] (True where query row may see key column) -> [B, N, size]."""
        x = self.norm(x)
        query, key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.dropout(self.output(mixed.transpose(1, 2).flatten(2)))


class Convolution(nn.Module):
    """The Conformer's convolution module: gate, depthwise convolution over time, batch norm."""

    def __init__(self, size: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.norm = nn.LayerNorm(size)
        self.gate = nn.Conv1d(size, 2 * size, 1)
        self.depthwise = nn.Conv1d(size, size, kernel, groups=size)
        self.batch_norm = nn.BatchNorm1d(size)
        self.pointwise = nn.Conv1d(size, size, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, chunk: int) -> Tensor:
        """[B, N, size] -> [B, N, size]; with chunk > 0, a frame sees nothing after the end of its chunk."""
        x = F.glu(self.gate(self.norm(x).transpose(1, 2)), dim=1)
        x = self.depthwise(F.pad(x, (self.reach, self.reach))) if chunk == 0 else self.by_chunk(x, chunk)
        x = self.pointwise(F.silu(self.batch_norm(x)))
        return self.dropout(x.transpose(1, 2))

    def by_chunk(self, x: Tensor, chunk: int) -> Tensor:
        """The depthwise convolution of [B, size, N], with zeros to the right of every chunk's end."""
        batch, _, frames = x.shape
        x = F.pad(x, (self.reach, -frames % chunk))
        x = x.unfold(2, self.reach + chunk, chunk).transpose(1, 2).flatten(0, 1)
        x = self.depthwise(F.pad(x, (0, self.reach)))
        return x.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2)[:, :, :frames]


class Block(nn.Module):
    """One Conformer block: half a feed-forward, attention, convolution, half a feed-forward, norm."""

    def __init__(self, size: int, heads: int, hidden: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.feed_in = FeedForward(size, hidden, dropout)
        self.attention = Attention(size, heads, dropout)
        self.convolution = Convolution(size, kernel, dropout)
        self.feed_out = FeedForward(size, hidden, dropout)
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, mask: Tensor | None, chunk: int) -> Tensor:
        """[B, N, size] -> [B, N, size]."""
        x = x + 0.5 * self.feed_in(x)
        x = x + self.attention(x, mask)
        x = x + self.convolution(x, chunk)
        x = x + 0.5 * self.feed_out(x)
        return self.norm(x)


def chunk_mask(frames: int, chunk: int, left: int, device: torch.device) -> Tensor:
    """[frames, frames], True where a query (row) may see a key (column): its own chunk and `left` frames before it.

    left = -1 stands for all frames before the chunk.
    """
    index = torch.arange(frames, device=device)
    start = (index // chunk * chunk)[:, None]
    mask = index < start + chunk
    return mask if left < 0 else mask & (index >= start - left)


class Digits(nn.Module):
    """Log-mel features, subsampling, Conformer blocks, and a CTC output over blank and ten digits."""

    def __init__(
        self,
        mels: int = 40,
        size: int = 96,
        heads: int = 4,
        hidden: int = 256,
        kernel: int = 15,
        blocks: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.features = LogMel(mels)
        self.subsample = Subsample(mels, size)
        self.blocks = nn.ModuleList(Block(size, heads, hidden, kernel, dropout) for _ in range(blocks))
        self.output = nn.Linear(size, len(TOKENS))

    def forward(self, audio: Tensor, chunk: int = 0, left: int = -1) -> Tensor:
        """audio [B, T] at 8 kHz in [-1, 1] -> log-probabilities [B, T // 320, 11], one frame for 40 ms.

        chunk = 0 sees the whole utterance. chunk = C frames sees what a stream fed C frames at a time sees:
        nothing after the end of a frame's own chunk, and in attention `left` frames before it (-1: all).
        """
        return self.encode(self.features(audio), chunk, left)

    def encode(self, features: Tensor, chunk: int = 0, left: int = -1) -> Tensor:
        """features [B, F, mels] -> log-probabilities [B, F // 4, 11]."""
        x = self.subsample(features)
        mask = chunk_mask(x.shape[1], chunk, left, x.device) if chunk else None
        for block in self.blocks:
            x = block(x, mask, chunk)
        return F.log_softmax(self.output(x), dim=-1)


def decode(log_probs: Tensor) -> list[int]:
    """Greedy CTC: log-probabilities [N, 11] -> digits; repeats are merged, blanks dropped."""
    best = torch.unique_consecutive(log_probs.argmax(dim=-1))
    return [token - 1 for token in best.tolist() if token]

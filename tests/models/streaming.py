"""Whole models that stream: how each is made, the rewrites that it needs, its step and its lengths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import MODELS, Case, case
from .conformer import ConformerCTC
from .convolutional import randomised

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "model.pt"
STREAMED: dict[str, Streamed] = {}


@dataclass(frozen=True)
class Streamed:
    """A model to stream: a `Case` (None: the archive of digits), passes that let it, frames a step, lengths to check.

    `late` is the delay of its first output in frames of the input, where it can be told by hand.
    """

    build: Callable[[], Case | None]
    chunk: int
    lengths: tuple[int, ...]
    rewrites: tuple[str, ...] = ()
    late: float | None = None


def streamed(name: str, chunk: int, lengths: tuple[int, ...], *rewrites: str, **more: Any):
    """Register a builder."""

    def register(build: Callable[[], Case | None]):
        STREAMED[name] = Streamed(build, chunk, lengths, rewrites, **more)
        return build

    return register


# -- convolutions and recurrences ----------------------------------------------------------------------------------
class CausalBlock(nn.Module):
    """A dilated convolution that sees the past alone, with a residual (Bai et al. 2018)."""

    def __init__(self, size: int, dilation: int):
        super().__init__()
        self.past = 2 * dilation
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(size, size, 3, dilation=dilation))
        self.norm = nn.BatchNorm1d(size)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.norm(self.conv(F.pad(x, (self.past, 0)))))


class TcnGru(nn.Module):
    """features [B, 12, T] -> scores [B, T, 5]."""

    def __init__(self, size: int = 16):
        super().__init__()
        self.stem = nn.Conv1d(12, size, 1)
        self.blocks = nn.Sequential(*(CausalBlock(size, 2**i) for i in range(4)))
        self.gru = nn.GRU(size, size, num_layers=2, batch_first=True)
        self.head = nn.Linear(size, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(self.blocks(self.stem(x)).transpose(1, 2))
        return self.head(y).softmax(-1)


@streamed("tcn_gru", 8, (3, 16, 45), late=0)
def tcn_gru() -> Case:
    """A temporal convolutional network without future, then two GRU layers."""
    torch.manual_seed(0)
    return case(randomised(TcnGru()), {"x": (1, 12, "T")}, 2, 30)


# The stem is ⌈(10 - 2 - 5) / 2⌉ = 2 frames late, at 2 input frames each; each 3 x 3 convolution one more.
@streamed("keyword_spotter", 8, (5, 32, 101), "normalise{mode='cumulative', outputs=True}", late=2 * (2 + 1 + 1))
def keyword_spotter() -> Case:
    """The keyword spotter of separable 2-D convolutions; its average over the utterance becomes one of all so far."""
    return MODELS["keyword_spotter"]()


class DeepSpeech(nn.Module):
    """features [B, T, 20] -> log-probabilities [B, T/2, 11]."""

    def __init__(self, size: int = 24, ahead: int = 4, bidirectional: bool = False):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(1, 4, (11, 5), stride=(2, 2), padding=(5, 2)), nn.BatchNorm2d(4), nn.Hardtanh(0, 20),
            nn.Conv2d(4, 4, (11, 5), padding=(5, 2)), nn.BatchNorm2d(4), nn.Hardtanh(0, 20),
        )  # fmt: skip
        self.lstm = nn.LSTM(40, size, num_layers=2, batch_first=True, bidirectional=bidirectional)
        size, self.ahead = (2 * size if bidirectional else size), ahead
        self.look = nn.Conv1d(size, size, ahead + 1, groups=size, bias=False)
        self.head = nn.Linear(size, 11)

    def forward(self, features: Tensor) -> Tensor:
        y = self.convs(features[:, None]).transpose(1, 2).flatten(2)
        y, _ = self.lstm(y)
        y = self.look(F.pad(y.transpose(1, 2), (0, self.ahead))).transpose(1, 2)
        return self.head(F.relu(y)).log_softmax(-1)


# ⌈(11 - 2 - 5) / 2⌉ = 2, then 5 and 4 frames, at 2 input frames each.
@streamed("deepspeech", 16, (7, 48, 101), late=2 * (2 + 5 + 4))
def deepspeech() -> Case:
    """Deep Speech 2 (Amodei et al. 2016): 2-D convolutions, forward recurrent layers, a look-ahead convolution."""
    torch.manual_seed(0)
    return case(randomised(DeepSpeech()), {"features": (1, "T", 20)}, 1, 60)


# 7 frames, then chunks of 8 with 4 more: windows of 12 are ⌈(7 + 12 - 8) / 8⌉ = 2 chunks late, and then ⌈(16 + 4) / 8⌉.
@streamed(
    "deepspeech_bidirectional", 16, (7, 48, 101), "bidirectional{mode='latency-controlled', chunk=16, right=8}",
    late=2 * (24 + 4),
)  # fmt: skip
def deepspeech_bidirectional() -> Case:
    """The same with bidirectional layers, whose backward half sees chunks with a little more to the right."""
    torch.manual_seed(0)
    return case(randomised(DeepSpeech(bidirectional=True)), {"features": (1, "T", 20)}, 1, 60)


# 1 for the stem, 2, 4 and 8 for the blocks, 1 for the pool; at rate 2, 16 · 2 + 1.
@streamed("separable_tcn", 8, (3, 16, 45), "normalise{mode='cumulative'}", late=33 / 2)
def separable_tcn() -> Case:
    """Symmetric convolutions with group norm over the utterance, which becomes one over all so far."""
    return MODELS["separable_tcn"]()


@streamed("log_mel", 320, (160, 1600, 4003), late=80)
def log_mel() -> Case:
    """A front end alone: frames of a centred STFT, mirrored at both ends."""
    return MODELS["log_mel"]()


# -- attention -----------------------------------------------------------------------------------------------------
class RelativeAttention(nn.Module):
    """Self-attention with Transformer-XL's relative positions (Dai et al. 2019); by chunks where `chunk` is set."""

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads, self.chunk, self.left = heads, 0, 0
        self.norm = nn.LayerNorm(size)
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        self.place = nn.Linear(size, size, bias=False)
        self.u = nn.Parameter(0.5 * torch.randn(heads, 1, size // heads))
        self.v = nn.Parameter(0.5 * torch.randn(heads, 1, size // heads))

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        x = self.norm(x)
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        content = (q + self.u) @ k.transpose(2, 3)
        moved = shifted((q + self.v) @ split(self.place(places)).transpose(2, 3))
        scores = (content + moved[..., : k.shape[2]]) / math.sqrt(k.shape[3])
        if self.chunk:
            at = torch.arange(x.shape[1]) // self.chunk
            ahead = at[None, :] - at[:, None]
            scores = scores.masked_fill((ahead > 0) | (ahead < -self.left), float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def shifted(x: Tensor) -> Tensor:
    """Row i moved to the left by T - 1 - i: [B, H, T, 2T - 1], distances T - 1 … 1 - T, to keys 0 … 2T - 2."""
    n, heads, t, width = x.shape
    return F.pad(x, (1, 0)).reshape(n, heads, width + 1, t)[:, :, 1:].reshape(n, heads, t, width)


class RelativeConformer(ConformerCTC):
    """A Conformer whose attention is told distances."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.size = sizes["size"]
        for layer in self.layers:
            layer.attention = RelativeAttention(self.size, sizes["heads"])

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(features[:, None]))))
        x = self.project(x.transpose(1, 2).flatten(2))
        at = torch.arange(x.shape[1] - 1, -x.shape[1], -1)[:, None]
        angles = at * torch.exp(torch.arange(0, self.size, 2) * (-math.log(1e4) / self.size))
        places = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[None]
        for layer in self.layers:
            x = x + 0.5 * layer.feed_in(x)
            x = x + layer.attention(x, places)
            x = x + layer.convolution(x)
            x = layer.norm(x + 0.5 * layer.feed_out(x))
        return self.output(x).log_softmax(-1)


def _conformer(chunk: int = 0, left: int = 0) -> Case:
    torch.manual_seed(0)
    model = RelativeConformer(features=20, size=32, heads=4, hidden=64, layers=2, channels=8, tokens=11, kernel=15)
    for layer in model.layers:
        layer.attention.chunk, layer.attention.left = chunk, left
    return case(randomised(model), {"features": (1, "T", 20)}, 1, 77)


# Subsampling is 1 frame late (of rate 1/4), attention then 8, in chunks of 8; 7 more for a convolution of 15; the same
# again: 16 and 7.
@streamed("conformer", 32, (12, 64, 301), "limit-attention{chunk=32, left=64}", late=4 * (16 + 7))
def conformer() -> Case:
    """A Conformer with relative positions, batch norm and convolutions over as much future as past."""
    return _conformer()


# In steps of 4 frames attention is 8 late, and then, 15 frames late before it, 4 + 16.
@streamed("conformer_chunked", 16, (12, 64, 301), late=4 * (20 + 7))
def conformer_chunked() -> Case:
    """The same model, its mask its own: chunks of 8 frames and 2 chunks back."""
    return _conformer(8, 2)


# In steps of 4 frames (of rate 1/8), chunks of 8: attention 4, a convolution of 9 to 8, attention 4 + 8, to 16.
@streamed("parakeet", 32, (12, 128, 301), "limit-attention{chunk=64, left=128}", late=8 * 16)
def parakeet() -> Case:
    """FastConformer with subsampling by 8."""
    return MODELS["parakeet"]()


# Each convolution over audio is a frame late, attention 16 (of rate 1/20), a convolution of 7 three more, and so on.
@streamed(
    "wav2vec2_conformer", 320, (60, 1601, 6001), "limit-attention{chunk=320, left=1280}",
    "normalise{mode='cumulative'}", late=20 * (32 + 3),
)  # fmt: skip
def wav2vec2_conformer() -> Case:
    """Raw audio; the norm over time of its first convolution becomes one of all so far."""
    return MODELS["wav2vec2_conformer"]()


# In steps of 4 frames (of rate 1/4), chunks of 8: attention 4, and 4 + 4.
@streamed("speech2text", 16, (12, 64, 301), "limit-attention{chunk=32, left=64}", late=4 * 12)
def speech2text() -> Case:
    """Strided convolutions, and sinusoidal positions that are looked up by a running count of frames."""
    return MODELS["speech2text_encoder"]()


# ⌈63 / 64⌉ = 1, ⌈(1 + 7 - 3) / 3⌉ = 2, ⌈(2 + 1) / 2⌉ = 2 frames; attention in chunks of 4 (of rate 1/384) makes it 4.
@streamed(
    "moonshine", 1536, (1290, 4001, 9000), "limit-attention{chunk=1536, left=3072}", "normalise{mode='cumulative'}",
    late=384 * 4,
)  # fmt: skip
def moonshine() -> Case:
    """Raw audio, rotary positions."""
    return MODELS["moonshine_encoder"]()


@streamed(
    "digits", 5120, (3000, 10240, 16001),
    "limit-attention{chunk=5120, left=20480}", "conv-context{mode='chunk', chunk=5120}", late=0,
)  # fmt: skip
def digits() -> None:
    """Spoken digits from raw audio, the model of the example."""


# -- several rates -------------------------------------------------------------------------------------------------
class Residual(nn.Module):
    """Separable convolutions of growing dilation, over as much future as past."""

    def __init__(self, size: int):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(0.1),
                nn.Conv1d(size, size, 7, padding=3 * d, dilation=d, groups=size),
                nn.Conv1d(size, size, 1),
            )
            for d in (1, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


class Vocoder(nn.Module):
    """features [B, 20, T] -> audio [B, 16 T]."""

    def __init__(self, size: int = 32):
        super().__init__()
        self.stem = nn.Conv1d(20, size, 7, padding=3)
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(size // 2**i, size // 2 ** (i + 1), 8, stride=4, padding=2) for i in range(2)
        )
        self.blocks = nn.ModuleList(Residual(size // 2 ** (i + 1)) for i in range(2))
        self.head = nn.Conv1d(size // 4, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        x = self.stem(features)
        for up, block in zip(self.ups, self.blocks):
            x = block(up(F.leaky_relu(x, 0.1)))
        return self.head(F.leaky_relu(x, 0.1)).tanh()[:, 0]


# 3 frames; at rate 4: 3 · 4 + 2, then 3 + 9 for two convolutions of 7; at rate 16: 26 · 4 + 2, 3 + 9, and 3.
@streamed("vocoder", 4, (3, 8, 29), late=121 / 16)
def vocoder() -> Case:
    """Audio from features (after HiFi-GAN, Kong et al. 2020): transposed and separable convolutions."""
    torch.manual_seed(0)
    return case(Vocoder(), {"features": (1, 20, "T")}, 2, 12)


class UNet(nn.Module):
    """audio [B, T] -> audio [B, T]."""

    def __init__(self, size: int = 8, depth: int = 3):
        super().__init__()
        self.depth = depth
        sizes = [1, *(size * 2**i for i in range(depth))]
        self.down = nn.ModuleList(nn.Conv1d(a, b, 4, stride=2) for a, b in pairwise(sizes))
        self.mix = nn.ModuleList(nn.Conv1d(b, 2 * b, 1) for b in sizes[1:])
        self.gru = nn.GRU(sizes[-1], sizes[-1], batch_first=True)
        self.unmix = nn.ModuleList(nn.Conv1d(b, 2 * b, 1) for b in sizes[1:])
        self.up = nn.ModuleList(nn.ConvTranspose1d(b, a, 4, stride=2) for a, b in pairwise(sizes))

    def forward(self, audio: Tensor) -> Tensor:
        length = audio.shape[1]
        x = F.pad(audio[:, None], (0, -length % 2**self.depth))
        skips = []
        for down, mix in zip(self.down, self.mix):
            x = F.glu(mix(F.relu(down(F.pad(x, (2, 0))))), 1)
            skips.append(x)
        x = self.gru(x.transpose(1, 2))[0].transpose(1, 2)
        for unmix, up, skip in zip(reversed(self.unmix), reversed(self.up), reversed(skips)):
            x = up(F.glu(unmix(x + skip), 1))
            x = x[..., : x.shape[-1] - 2]
            if up is not self.up[0]:
                x = F.relu(x)
        return x[:, 0, :length]


@streamed("unet", 16, (5, 32, 101), late=0)
def unet() -> Case:
    """A denoiser on audio (after Defossez et al. 2020): strides down and up, and a skip at every rate."""
    torch.manual_seed(0)
    return case(UNet(), {"audio": (1, "T")}, 1, 50)

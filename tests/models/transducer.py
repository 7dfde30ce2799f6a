"""Transducers with random weights: an encoder of audio that streams, LSTM or stateless predictors, a joiner."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from speechc.compiler.assembly.parts import Parts
from speechc.compiler.assembly.transducer import transducer
from torch import Tensor, nn

RATE, HOP = 8000, 320  # Hz, samples of a frame
TOKENS = ["<blank>", "\u2581a", "\u2581b", "c", "d"]
SIZE = 12


class Encoder(nn.Module):
    """audio [1, T] -> [1, T / 320, 12]: strided convolutions (one that looks ahead), then an LSTM."""

    def __init__(self):
        super().__init__()
        self.wave = nn.Conv1d(1, 8, 160, stride=80)
        self.conv = nn.Conv1d(8, SIZE, 4, stride=4)
        self.ahead = nn.Conv1d(SIZE, SIZE, 3, padding=1)
        self.lstm = nn.LSTM(SIZE, SIZE, batch_first=True)
        self.head = nn.Linear(SIZE, SIZE)

    def forward(self, audio: Tensor) -> Tensor:
        x = F.relu(self.wave(F.pad(audio[:, None], (80, 0))))
        x = F.relu(self.conv(x))
        y, _ = self.lstm((x + self.ahead(x)).transpose(1, 2))
        return self.head(y)


class Recurrent(nn.Module):
    """tokens [1, N] -> [1, N, 12], by an LSTM."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(len(TOKENS), SIZE)
        self.lstm = nn.LSTM(SIZE, SIZE, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.lstm(self.embed(tokens))[0]


class Stateless(nn.Module):
    """tokens [1, N] -> [1, N, 12], from the last two tokens alone (Ghodsi et al. 2020)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(len(TOKENS), SIZE)
        self.conv = nn.Conv1d(SIZE, SIZE, 2, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.pad(self.embed(tokens).transpose(1, 2), (1, 0))
        return F.relu(self.conv(x)).transpose(1, 2)


class Joiner(nn.Module):
    """Pairs [1, N, 12] and [1, N, 12] -> scores [1, N, 5]."""

    def __init__(self):
        super().__init__()
        self.heard, self.said = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE)
        self.out = nn.Linear(SIZE, len(TOKENS))

    def forward(self, heard: Tensor, said: Tensor) -> Tensor:
        return self.out(torch.tanh(self.heard(heard) + self.said(said)))


def modules(predictor: type[nn.Module] = Recurrent, seed: int = 0) -> tuple[nn.Module, nn.Module, nn.Module]:
    """(encoder, predictor, joiner), in float32 and evaluation mode; their outputs differ from frame to frame."""
    torch.manual_seed(seed)
    made = (Encoder().eval(), predictor().eval(), Joiner().eval())
    with torch.no_grad():
        for module in made:
            for p in module.parameters():
                p.mul_(2.5)
        made[0].head.weight.mul_(4)
    return made


def parts(predictor: type[nn.Module] = Recurrent, seed: int = 0, **rules) -> Parts:
    """As the parts of a model."""
    return transducer(*modules(predictor, seed), (SIZE, SIZE), TOKENS, sample_rate=RATE, name="transducer", **rules)


def lstm() -> Parts:
    """For the command line: `models.transducer:lstm`."""
    return parts()

"""A small encoder and attention decoder over tokens, with random weights, as parts of one model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from speechc.compiler.assembly.parts import Part, Parts
from torch import Tensor, nn

SAMPLES, FRAMES, SIZE, HEADS, MOST = 800, 10, 8, 2, 9
TOKENS = ["<start>", "<end>", "a", "b", "c"]
START, END = 0, 1


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class Encoder(nn.Module):
    """audio [1, 800] → [1, 10, 8]."""

    def __init__(self):
        super().__init__()
        self.frames = nn.Conv1d(1, SIZE, SAMPLES // FRAMES, stride=SAMPLES // FRAMES)

    def forward(self, audio: Tensor) -> Tensor:
        return torch.tanh(self.frames(audio[:, None])).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(SIZE, SIZE) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, causal: bool) -> Tensor:
        q, k, v = heads(self.query(x)), heads(self.key(memory)), heads(self.value(memory))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2))


class Decoder(nn.Module):
    """tokens [1, N] and the memory → scores of what follows, [1, N, 5]; at most 9 positions."""

    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(len(TOKENS), SIZE), nn.Embedding(MOST, SIZE)
        self.itself, self.other = Attention(), Attention()
        self.scores = nn.Linear(SIZE, len(TOKENS))

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        x = 2 * self.embed(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device))
        x = x + self.itself(x, x, True)
        return 3 * self.scores(x + 2 * self.other(x, memory, False))


def parts(seed: int = 0) -> Parts:
    """The model, in evaluation mode."""
    torch.manual_seed(seed)
    encoder, decoder = Encoder().eval(), Decoder().eval()
    return Parts(
        "attention",
        {
            "encoder": Part(encoder, {"audio": f"f32[1,{SAMPLES}]"}, ("memory",)),
            "decoder": Part(
                decoder, {"tokens": "i64[1,T]", "memory": f"f32[1,{FRAMES},{SIZE}]"}, ("scores",), {"tokens": 1}, 1
            ),
        },
        {"family": "plain", "start": START, "end": END, "most": MOST},
        TOKENS,
        sample_rate=8000,
        name="seq2seq",
    )


def scorer(model: Parts, audio: Tensor):
    """`log p(next | tokens)` of the modules themselves, for all tokens so far."""
    encoder, decoder = (model.parts[n].module for n in ("encoder", "decoder"))
    with torch.no_grad():
        memory = encoder(audio)

    def next(tokens: list[int]) -> Tensor:
        with torch.no_grad():
            return decoder(torch.tensor([[START, *tokens]]), memory)[0, -1].double().log_softmax(-1)

    return next

"""Whisper (Radford et al. 2022) of transformers: an encoder of 30 s of log-mel features, a decoder over tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from ....ir.errors import CaptureError
from ...assembly.parts import Part, Parts
from ...assembly.text import BYTES
from .table import parts

RATE = 16000  # Hz
SENTENCE = [
    "\u0120the",
    "\u0120quick",
    "\u0120brown",
    "\u0120fox",
    "\u0120jumps",
    "\u0120over",
    "\u0120the",
    "\u0120lazy",
    "\u0120dog",
]
FRAMES = 2  # features per position of the encoder
SPECIAL = {
    "start": "<|startoftranscript|>",
    "end": "<|endoftext|>",
    "transcribe": "<|transcribe|>",
    "translate": "<|translate|>",
    "no_timestamps": "<|notimestamps|>",
    "previous": "<|startofprev|>",
}


class Encoder(nn.Module):
    """Log-mel features [1, mels, frames] → what the decoder attends to, [1, frames / 2, width]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.encoder = model.model.encoder

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self.encoder(features).last_hidden_state


class Decoder(nn.Module):
    """Tokens [1, T] and the memory → scores of the next token at every place, [1, T, tokens]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.decoder, self.scores = model.model.decoder, model.proj_out

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """See the class."""
        heard = self.decoder(input_ids=tokens, encoder_hidden_states=memory, use_cache=False)
        return self.scores(heard.last_hidden_state)


@parts("transformers.models.whisper.modeling_whisper.WhisperForConditionalGeneration")
def whisper(model: nn.Module, folder: Path | None) -> Parts:
    """The recipe. The tokens come from `tokenizer.json` in the model's directory."""
    c = model.config
    tokens, special = _tokens(folder, c.vocab_size)
    encoder = Part(
        Encoder(model),
        {"features": f"f32[1,{c.num_mel_bins},{FRAMES * c.max_source_positions}]"},
        ("memory",),
        keep="front_end",
    )
    said = [tokens.index(t) for t in SENTENCE if t in tokens]
    start = [special["start"], special["start"] + 1, special["transcribe"], special["no_timestamps"]]
    memory = f"f32[1,{c.max_source_positions},{c.d_model}]"
    decoder = Part(
        Decoder(model),
        {"tokens": "i64[1,T]", "memory": memory},
        ("scores",),
        {"tokens": 1},
        stream=1,
        keep="front_end",
        sample={"tokens": np.array([[*start, *said]], np.int64)},
    )
    rules = model.generation_config
    decoding = {
        "family": "whisper",
        "most": c.max_target_positions,
        "special": special,
        "suppress": list(rules.suppress_tokens or ()),
        "suppress_first": list(rules.begin_suppress_tokens or ()),
    }
    return Parts(
        "attention",
        {"encoder": encoder, "decoder": decoder},
        decoding,
        tokens,
        BYTES,
        RATE,
        f"whisper{{bins={c.num_mel_bins}}}",
    )


def _tokens(folder: Path | None, size: int) -> tuple[list[str], dict[str, int]]:
    """The text of every token (byte-level BPE), and the numbers of the special ones.

    Raises `CaptureError` SC409 where the tokenizer is not there, or lacks them.
    """
    path = None if folder is None else folder / "tokenizer.json"
    if path is None or not path.is_file():
        hints = ["compile the directory that save_pretrained writes, with tokenizer.json in it"]
        raise CaptureError("SC409", "Whisper's tokens are not known: there is no tokenizer.json", hints=hints)
    read = json.loads(path.read_text())
    numbers = dict(read["model"]["vocab"]) | {t["content"]: t["id"] for t in read.get("added_tokens", ())}
    tokens = [""] * max(size, 1 + max(numbers.values()))
    for text, number in numbers.items():
        tokens[number] = text
    missing = [text for text in SPECIAL.values() if text not in numbers]
    if missing:
        raise CaptureError("SC409", f"{path} has no {', '.join(missing)}: these are not Whisper's tokens")
    return tokens, {name: numbers[text] for name, text in SPECIAL.items()}

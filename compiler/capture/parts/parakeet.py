"""Parakeet RNN-T of transformers: a FastConformer encoder of log-mel features, an LSTM predictor, a joiner."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor, nn

from ....ir.errors import CaptureError
from ...assembly.parts import Parts
from ...assembly.transducer import transducer
from .table import parts

RATE = 16000  # Hz


class Encoder(nn.Module):
    """Log-mel features [1, frames, mels] → [1, frames / 8, width of the joiner]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.encoder, self.projector = model.encoder, model.encoder_projector

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self.projector(self.encoder(input_features=features).last_hidden_state)


class Predictor(nn.Module):
    """Tokens [1, T], the blank first → [1, T, width of the joiner]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.decoder = model.decoder

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        return self.decoder(tokens)


class Joiner(nn.Module):
    """Pairs of what was heard and said → scores of the tokens, the blank among them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.joint = model.joint

    def forward(self, heard: Tensor, said: Tensor) -> Tensor:
        """See the class."""
        return self.joint(encoder_hidden_states=heard, decoder_hidden_states=said)


@parts("transformers.models.parakeet.modeling_parakeet.ParakeetForRNNT")
def parakeet_rnnt(model: nn.Module, folder: Path | None) -> Parts:
    """The recipe. The tokens come from `tokenizer.json` in the model's directory; without one, they are numbers."""
    if hasattr(model.config, "durations"):
        hints = ["ParakeetForRNNT compiles; so does ParakeetForCTC"]
        raise CaptureError("SC409", "tokens with durations (TDT) have no search here", hints=hints)
    c = model.config
    tokens, notes = _tokens(folder, c.vocab_size)
    return transducer(
        Encoder(model),
        Predictor(model),
        Joiner(model),
        (c.decoder_hidden_size, c.decoder_hidden_size),
        tokens,
        audio=f"features=f32[1,T,{c.encoder_config.num_mel_bins}]",
        sample_rate=RATE,
        blank=c.blank_token_id,
        most=c.max_symbols_per_step,
        notes=notes,
    )


def _tokens(folder: Path | None, size: int) -> tuple[list[str], list[str]]:
    """The text of every token (sentence pieces), and what the user should know of it.

    Raises `CaptureError` SC409 for a directory without a tokenizer, or with more tokens than the model has.
    """
    if folder is None:
        return [str(n) for n in range(size)], ["there is no tokenizer: the text is the numbers of tokens"]
    path = folder / "tokenizer.json"
    if not path.is_file():
        hints = ["compile the directory that save_pretrained writes, with tokenizer.json in it"]
        raise CaptureError("SC409", "Parakeet's tokens are not known: there is no tokenizer.json", hints=hints)
    read = json.loads(path.read_text())
    vocabulary = read["model"]["vocab"]
    numbers = dict(vocabulary) if isinstance(vocabulary, dict) else {t: n for n, (t, _) in enumerate(vocabulary)}
    numbers |= {t["content"]: t["id"] for t in read.get("added_tokens", ())}
    if max(numbers.values()) >= size:
        raise CaptureError("SC409", f"{path} has {max(numbers.values()) + 1} tokens, the model {size}")
    tokens = [""] * size
    for text, number in numbers.items():
        tokens[number] = text
    return tokens, []

"""A Whisper of one second with random weights, as the directory that transformers' `save_pretrained` writes."""

from __future__ import annotations

import json
from pathlib import Path

import torch

RATE, WINDOW = 16000, 16000  # Hz; samples of a window
BINS, MOST, TEXT = 80, 40, 40  # mel bins, positions of the decoder, tokens that are text
SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|fr|>", "<|translate|>", "<|transcribe|>",
    "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
STAMPS = [f"<|{i / 50:.2f}|>" for i in range(WINDOW * 50 // RATE + 1)]
TOKENS = [*(chr(ord("!") + i) for i in range(TEXT)), *SPECIAL, *STAMPS]


def number(token: str) -> int:
    """The number of a token."""
    return TOKENS.index(token)


def model(seed: int = 0):
    """The module, in evaluation mode; its text depends on what it hears."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(TOKENS), num_mel_bins=BINS, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
        max_source_positions=WINDOW * 50 // RATE, max_target_positions=MOST, init_std=0.3,
        pad_token_id=number("<|endoftext|>"), bos_token_id=number("<|endoftext|>"),
        eos_token_id=number("<|endoftext|>"), decoder_start_token_id=number("<|startoftranscript|>"),
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    made = WhisperForConditionalGeneration(config).eval()
    rules = made.generation_config
    rules.no_timestamps_token_id = number("<|notimestamps|>")
    rules.max_initial_timestamp_index = 50
    never = [number(t) for t in SPECIAL if t not in ("<|endoftext|>", "<|notimestamps|>")]
    rules.suppress_tokens, rules.begin_suppress_tokens = [3, 5, *never], [0, number("<|endoftext|>")]
    rules.is_multilingual = True
    rules.lang_to_id = {t: number(t) for t in ("<|en|>", "<|de|>", "<|fr|>")}
    rules.task_to_id = {t: number(f"<|{t}|>") for t in ("transcribe", "translate")}
    rules.max_length = MOST
    return made


def write(folder: Path, seed: int = 0):
    """Write the directory; the module."""
    made = model(seed)
    made.save_pretrained(folder)
    vocabulary = {t: i for i, t in enumerate(TOKENS[:TEXT])}
    added = [{"content": t, "id": number(t)} for t in TOKENS[TEXT:]]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": added}))
    return made

"""Parakeet RNN-T of transformers, unmodified: compiled to a folder that says what `generate` says."""

import json

import numpy as np
import pytest
import speechc
import torch
from speechc.compiler.listen import open_listener
from speechc.ir.errors import CaptureError

pytestmark = pytest.mark.slow
TOKENS, BLANK, MELS = 14, 13, 16


def lively(seed=0):
    """(model, features): random weights, with outputs that differ from frame to frame."""
    from transformers import ParakeetEncoderConfig, ParakeetForRNNT, ParakeetRNNTConfig

    torch.manual_seed(seed)
    encoder = ParakeetEncoderConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, num_mel_bins=MELS,
        subsampling_conv_channels=8, max_position_embeddings=512,
    )  # fmt: skip
    config = ParakeetRNNTConfig(
        vocab_size=TOKENS, blank_token_id=BLANK, decoder_hidden_size=24, num_decoder_layers=2, pad_token_id=BLANK,
        encoder_config=encoder.to_dict(), max_symbols_per_step=4,
    )  # fmt: skip
    model, x = ParakeetForRNNT(config).eval(), torch.randn(1, 320, MELS)
    with torch.no_grad():
        for p in (*model.decoder.parameters(), *model.joint.parameters()):
            p.mul_(8)
        made = model.encoder_projector(model.encoder(input_features=x).last_hidden_state)[0]
        scale = 2 / made.std(0)
        model.encoder_projector.weight.mul_(scale[:, None])
        model.encoder_projector.bias.sub_(made.mean(0)).mul_(scale)
        model.joint.head.bias[BLANK] += 1.5
    model.generation_config.decoder_start_token_id = BLANK
    return model, x


def generated(model, x):
    """(tokens, frame of each) that transformers decodes, greedily."""
    out = model.generate(input_features=x, max_new_tokens=400)
    tokens = out.sequences[0, 1:].tolist()
    frames = out.durations[0].cumsum(0)[: len(tokens)].tolist()
    return [(t, f) for t, f in zip(tokens, frames) if t != BLANK]


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_the_folder_says_what_the_model_generates(target, tmp_path):
    model, x = lively()
    expected = generated(model, x)
    assert len({t for t, _ in expected}) > 3 and len(expected) > 10
    folder = speechc.compile(model, target=target, output=tmp_path / "out").path
    listener = open_listener(folder)
    for length in (320, 161):
        (best,) = listener.hear_arrays({"features": x.numpy()[:, :length]}).alternatives
        assert [int(t) for t in best.tokens] == [t for t, _ in generated(model, x[:, :length])]
    assert "no tokenizer" in json.loads((folder / f"encoder{listener.files[0].suffix}.json").read_text())["notes"][0]


def test_a_beam_finds_something_likelier(tmp_path):
    model, x = lively()
    folder = speechc.compile(model, target="onnx", output=tmp_path, batch=4).path
    score = lambda **search: open_listener(folder, **search).hear_arrays({"features": x.numpy()}).alternatives[0].score
    assert score(beam=4) > score()


def test_tokens_of_a_directory(tmp_path):
    model, x = lively()
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(CaptureError, match=r"no tokenizer\.json") as caught:
        speechc.compile(tmp_path / "model", target="onnx", output=tmp_path)
    assert caught.value.code == "SC409"
    pieces = [["\u2581a", 0.0], *([letter, -1.0] for letter in "bcdefghijkl"), ["\u2581", -2.0]]
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": pieces}}))
    folder = speechc.compile(tmp_path / "model", target="onnx", output=tmp_path / "out").path
    names = [*(p for p, _ in pieces), ""]
    heard = open_listener(folder).hear_arrays({"features": x.numpy()})
    said = "".join(names[t] for t, _ in generated(model, x)).replace("\u2581", " ").strip()
    assert heard.text == said and said
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": pieces * 2}}))
    with pytest.raises(CaptureError, match="26 tokens, the model 14"):
        speechc.compile(tmp_path / "model", target="onnx", output=tmp_path)


def test_durations_are_refused():
    from transformers import ParakeetForTDT, ParakeetTDTConfig

    small, _ = lively()
    config = ParakeetTDTConfig(
        vocab_size=TOKENS, blank_token_id=BLANK, decoder_hidden_size=24, num_decoder_layers=1, pad_token_id=BLANK,
        encoder_config=small.config.encoder_config.to_dict(),
    )  # fmt: skip
    with pytest.raises(CaptureError, match="durations") as caught:
        speechc.compile(ParakeetForTDT(config).eval(), target="onnx")
    assert caught.value.code == "SC409"


def test_it_streams_in_chunks(tmp_path):
    model, x = lively()
    flags = {"stream": "32 frames", "attention": "chunk:32 frames,left=64 frames", "batch": 4}
    folder = speechc.compile(model, target="onnx", output=tmp_path, **flags).path
    listener = open_listener(folder, beam=4, best=2)
    whole = listener.hear_arrays({"features": x.numpy()})
    stream = listener.stream_arrays({})
    for piece in np.split(x.numpy(), [5, 100, 101, 250], 1):
        stream.push_arrays([piece])
    found = stream.flush()
    assert found.text == whole.text and whole.text
    assert [a.tokens for a in found.alternatives] == [a.tokens for a in whole.alternatives]

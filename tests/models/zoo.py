"""The speech classes of transformers, unmodified, small and with random weights: one builder each.

`ZOO[class name]` says how a class is made, what it is called with, and three lengths to check it at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import Case


@dataclass(frozen=True)
class Species:
    """One class: `takes` is what it is called with, `lengths` are three in its own frames or samples.

    `build(padded)` makes a `Case` of one utterance, or of three under a mask as long as input `masked` (None: the class
    takes no mask).
    """

    takes: str
    lengths: tuple[int, ...]
    masked: str | None
    build: Callable[..., Case]


ZOO: dict[str, Species] = {}


def zoo(name: str, takes: str, lengths: tuple[int, ...], masked: str | None = "input_values"):
    """Register a builder, which gives (module, shapes by input, time axes, length to trace, arguments that stay)."""

    def register(build):
        def case(padded: bool = False) -> Case:
            import torch

            torch.manual_seed(0)
            module, shapes, time, length, *constants = build()
            if padded:
                shapes = {n: (kind, 3, *sizes) for n, (kind, _, *sizes) in shapes.items()}
                shapes |= {"attention_mask": ("mask", 3, shapes[masked][2])}
                time = {**time, "attention_mask": 1}
            return _case(module, shapes, time, length, *constants)

        ZOO[name] = Species(takes, lengths, masked, case)
        return build

    return register


def _case(module, shapes: Mapping[str, tuple], time: Mapping[str, int] | None, length: int, constants=None) -> Case:
    """Inputs of any length, of shapes `(kind, sizes…)`: "f" is normal, a number n integers below it, "mask" a mask.

    A size is a number, or a function of the length. Every utterance but the first is padded.
    """
    import numpy as np
    import torch

    def make_inputs(length: int) -> dict[str, Any]:
        random = np.random.default_rng(length)
        made: dict[str, Any] = {}
        for name, (kind, *sizes) in shapes.items():
            shape = [s(length) if callable(s) else s for s in sizes]
            if kind == "f":
                made[name] = random.standard_normal(shape, dtype=np.float32)
            elif kind == "mask":
                real = [max(1, shape[1] * (3 + i) // (3 + 2 * i)) for i in range(shape[0])]
                made[name] = (np.arange(shape[1]) < np.array(real)[:, None]).astype(np.int64)
            else:
                made[name] = random.integers(0, kind, shape)
        return made

    sample = {name: torch.from_numpy(a) for name, a in make_inputs(length).items()}
    return Case(module.eval(), sample | (constants or {}), time, make_inputs)


def T(n: int) -> int:
    """The length itself, as a size."""
    return n


_WAVES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 13,
    "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
_AUDIO = ("f", 1, T)


@zoo("Wav2Vec2ForCTC", "audio", (400, 1601, 3500))
def _():
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    return Wav2Vec2ForCTC(Wav2Vec2Config(**_WAVES)), {"input_values": _AUDIO}, {"input_values": 1}, 2000


@zoo("HubertForCTC", "audio", (400, 1601, 3500))
def _():
    from transformers import HubertConfig, HubertForCTC

    config = HubertConfig(**_WAVES, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
    return HubertForCTC(config), {"input_values": _AUDIO}, {"input_values": 1}, 2000


@zoo("WavLMForCTC", "audio", (400, 1601, 3500))
def _():
    from transformers import WavLMConfig, WavLMForCTC

    return (
        WavLMForCTC(WavLMConfig(**{**_WAVES, "num_hidden_layers": 2})),
        {"input_values": _AUDIO},
        {"input_values": 1},
        2000,
    )


@zoo("UniSpeechForCTC", "audio", (400, 1601, 3500))
def _():
    from transformers import UniSpeechConfig, UniSpeechForCTC

    return UniSpeechForCTC(UniSpeechConfig(**_WAVES)), {"input_values": _AUDIO}, {"input_values": 1}, 2000


@zoo("Data2VecAudioForCTC", "audio", (400, 1601, 3500))
def _():
    from transformers import Data2VecAudioConfig, Data2VecAudioForCTC

    config = {**_WAVES, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7}
    return Data2VecAudioForCTC(Data2VecAudioConfig(**config)), {"input_values": _AUDIO}, {"input_values": 1}, 2000


@zoo("Wav2Vec2ConformerForCTC", "audio", (400, 1601, 3500))
def _():
    from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC

    config = Wav2Vec2ConformerConfig(**_WAVES, conv_depthwise_kernel_size=7)
    return Wav2Vec2ConformerForCTC(config), {"input_values": _AUDIO}, {"input_values": 1}, 2000


@zoo("Wav2Vec2BertForCTC", "features", (23, 90, 161), masked="input_features")
def _():
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertForCTC

    config = Wav2Vec2BertConfig(
        vocab_size=13, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        feature_projection_input_dim=20, left_max_position_embeddings=8, right_max_position_embeddings=4,
        conv_depthwise_kernel_size=7,
    )  # fmt: skip
    return Wav2Vec2BertForCTC(config), {"input_features": ("f", 1, T, 20)}, {"input_features": 1}, 120


@zoo("SEWForCTC", "audio", (400, 1601, 3500))
def _():
    from transformers import SEWConfig, SEWForCTC

    return SEWForCTC(SEWConfig(**_WAVES, squeeze_factor=2)), {"input_values": _AUDIO}, {"input_values": 1}, 2000


@zoo("ParakeetForCTC", "features", (40, 161, 350), masked="input_features")
def _():
    from transformers import ParakeetCTCConfig, ParakeetEncoderConfig, ParakeetForCTC

    encoder = ParakeetEncoderConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, num_mel_bins=16,
        subsampling_conv_channels=8,
    )  # fmt: skip
    config = ParakeetCTCConfig(vocab_size=14, pad_token_id=13, encoder_config=encoder.to_dict())
    return ParakeetForCTC(config), {"input_features": ("f", 1, T, 16)}, {"input_features": 1}, 200


@zoo("WhisperForConditionalGeneration", "features (64 frames), tokens", (3, 9, 20), masked=None)
def _():
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=16, max_source_positions=32,
        max_target_positions=24, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    inputs = {"input_features": ("f", 1, 16, 64), "decoder_input_ids": (60, 1, T)}
    return WhisperForConditionalGeneration(config), inputs, {"decoder_input_ids": 1}, 12, {"use_cache": False}


@zoo("MoonshineForConditionalGeneration", "audio, tokens", (1500, 4001, 9000))
def _():
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration

    config = MoonshineConfig(
        hidden_size=32, intermediate_size=64, encoder_num_hidden_layers=2, decoder_num_hidden_layers=2,
        encoder_num_attention_heads=4, decoder_num_attention_heads=4, vocab_size=50,
    )  # fmt: skip
    inputs = {"input_values": _AUDIO, "decoder_input_ids": (50, 1, lambda n: n // 500)}
    times = {"input_values": 1, "decoder_input_ids": 1}
    return MoonshineForConditionalGeneration(config), inputs, times, 6000, {"use_cache": False}


@zoo("Speech2TextForConditionalGeneration", "features, tokens", (40, 161, 350), masked="input_features")
def _():
    from transformers import Speech2TextConfig, Speech2TextForConditionalGeneration

    config = Speech2TextConfig(
        vocab_size=50, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, input_feat_per_channel=16, conv_channels=24,
        max_source_positions=300, max_target_positions=60,
    )  # fmt: skip
    inputs = {"input_features": ("f", 1, T, 16), "decoder_input_ids": (50, 1, lambda n: n // 20)}
    times = {"input_features": 1, "decoder_input_ids": 1}
    return Speech2TextForConditionalGeneration(config), inputs, times, 200, {"use_cache": False}


@zoo("SeamlessM4Tv2SpeechEncoder", "features, mask", (24, 90, 162), masked="input_features")
def _():
    from transformers import SeamlessM4Tv2Config
    from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2SpeechEncoder

    config = SeamlessM4Tv2Config(
        hidden_size=32, speech_encoder_layers=2, speech_encoder_attention_heads=4, speech_encoder_intermediate_size=64,
        feature_projection_input_dim=20, left_max_position_embeddings=8, right_max_position_embeddings=4,
        conv_depthwise_kernel_size=7, adaptor_kernel_size=4, adaptor_stride=4, speech_encoder_chunk_size=10,
        speech_encoder_left_chunk_num=2,
    )  # fmt: skip
    inputs = {"input_features": ("f", 1, T, 20), "attention_mask": ("mask", 1, T)}
    return SeamlessM4Tv2SpeechEncoder(config), inputs, {"input_features": 1, "attention_mask": 1}, 120


@zoo("ASTForAudioClassification", "features (100 frames)", (1, 2, 3), masked=None)
def _():
    from transformers import ASTConfig, ASTForAudioClassification

    config = ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_length=100,
        num_mel_bins=32, num_labels=7,
    )  # fmt: skip
    return ASTForAudioClassification(config), {"input_values": ("f", 1, 100, 32)}, None, 100


@zoo("DacModel", "audio", (1600, 4003, 9001), masked=None)
def _():
    from transformers import DacConfig, DacModel

    config = DacConfig(
        encoder_hidden_size=8, downsampling_ratios=[2, 4, 4], decoder_hidden_size=32, n_codebooks=3, codebook_size=32,
        codebook_dim=4,
    )  # fmt: skip
    return DacModel(config), {"input_values": ("f", 1, 1, T)}, {"input_values": 2}, 4800


@zoo("SEWDForCTC", "audio", (400, 1601, 3500))
def _():
    from transformers import SEWDConfig, SEWDForCTC

    config = SEWDConfig(**_WAVES, squeeze_factor=2, max_position_embeddings=64, position_buckets=16)
    return SEWDForCTC(config), {"input_values": _AUDIO}, {"input_values": 1}, 2000


@zoo("SpeechT5ForSpeechToText", "audio, tokens", (400, 1601, 3500))
def _():
    from transformers import SpeechT5Config, SpeechT5ForSpeechToText

    config = SpeechT5Config(
        **{n: v for n, v in _WAVES.items() if n not in {"num_attention_heads", "num_hidden_layers"}}, encoder_layers=1,
        decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
        decoder_ffn_dim=64,
    )  # fmt: skip
    inputs = {"input_values": _AUDIO, "decoder_input_ids": (13, 1, lambda n: n // 100)}
    times = {"input_values": 1, "decoder_input_ids": 1}
    return SpeechT5ForSpeechToText(config), inputs, times, 2000, {"use_cache": False}


@zoo("MimiModel", "audio", (800, 1203, 3001), masked=None)
def _():
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        hidden_size=16, num_filters=4, upsampling_ratios=[4, 2], codebook_size=32, codebook_dim=8,
        vector_quantization_hidden_dimension=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        head_dim=8, intermediate_size=32, num_quantizers=3, upsample_groups=16,
    )  # fmt: skip
    return MimiModel(config), {"input_values": ("f", 1, 1, T)}, {"input_values": 2}, 1600

"""Architectures from transformers with random weights and small configurations."""

from __future__ import annotations

from . import Case, case, model


def _seeded(make):
    import torch

    torch.manual_seed(0)
    return make().eval()


_WAV2VEC2 = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 13,
    "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}  # fmt: skip


@model("wav2vec2", (400, 1601, 3500))
def wav2vec2() -> Case:
    """`Wav2Vec2ForCTC` on raw audio."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    module = _seeded(lambda: Wav2Vec2ForCTC(Wav2Vec2Config(**_WAV2VEC2)))
    return case(module, {"input_values": (1, "T")}, 1, 2000)


@model("hubert", (400, 1601, 3500))
def hubert() -> Case:
    """`HubertForCTC` on raw audio, with layer norms in its convolutions."""
    from transformers import HubertConfig, HubertForCTC

    config = {**_WAV2VEC2, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    module = _seeded(lambda: HubertForCTC(HubertConfig(**config)))
    return case(module, {"input_values": (1, "T")}, 1, 2000)


@model("wav2vec2_conformer", (400, 1601, 3500))
def wav2vec2_conformer() -> Case:
    """`Wav2Vec2ConformerForCTC` with relative positions."""
    from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC

    config = Wav2Vec2ConformerConfig(**_WAV2VEC2, conv_depthwise_kernel_size=7)
    return case(_seeded(lambda: Wav2Vec2ConformerForCTC(config)), {"input_values": (1, "T")}, 1, 2000)


@model("parakeet", (40, 161, 350))
def parakeet() -> Case:
    """`ParakeetForCTC` (FastConformer) on mel features."""
    from transformers import ParakeetCTCConfig, ParakeetEncoderConfig, ParakeetForCTC

    encoder = ParakeetEncoderConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, num_mel_bins=16,
        subsampling_conv_channels=8,
    )  # fmt: skip
    config = ParakeetCTCConfig(vocab_size=14, pad_token_id=13, encoder_config=encoder.to_dict())
    return case(_seeded(lambda: ParakeetForCTC(config)), {"input_features": (1, "T", 16)}, 1, 200)


@model("whisper_encoder", (64, 64, 64))
def whisper_encoder() -> Case:
    """`WhisperEncoder`, which accepts only its own length."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=64, num_mel_bins=16,
        max_source_positions=32,
    )  # fmt: skip
    return case(_seeded(lambda: WhisperEncoder(config)), {"input_features": (1, 16, "T")}, None, 64)


@model("speech2text_encoder", (40, 161, 350))
def speech2text_encoder() -> Case:
    """The encoder of Speech2Text, with sinusoidal positions."""
    from transformers import Speech2TextConfig
    from transformers.models.speech_to_text.modeling_speech_to_text import Speech2TextEncoder

    config = Speech2TextConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=64, input_feat_per_channel=16,
        conv_channels=24, max_source_positions=300,
    )  # fmt: skip
    return case(_seeded(lambda: Speech2TextEncoder(config)), {"input_features": (1, "T", 16)}, 1, 200)


@model("moonshine_encoder", (1500, 4001, 9000))
def moonshine_encoder() -> Case:
    """The encoder of Moonshine, with rotary positions, on raw audio."""
    from transformers import MoonshineConfig
    from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder

    config = MoonshineConfig(
        hidden_size=32, intermediate_size=64, encoder_num_hidden_layers=2, encoder_num_attention_heads=4,
        encoder_num_key_value_heads=4, decoder_num_attention_heads=4, decoder_num_key_value_heads=4, vocab_size=50,
    )  # fmt: skip
    return case(_seeded(lambda: MoonshineEncoder(config)), {"input_values": (1, "T")}, 1, 6000)

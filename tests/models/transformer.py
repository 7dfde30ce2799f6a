"""PyTorch's own transformer modules."""

from __future__ import annotations

from . import Case, case, model


def _encoder(causal: bool = False, norm_first: bool = False, activation: str = "relu") -> Case:
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(
                32, 4, 64, batch_first=True, norm_first=norm_first, activation=activation
            )
            self.embed = nn.Linear(20, 32)
            self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(32))
            self.head = nn.Linear(32, 9)

        def forward(self, x):
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if causal else None
            return self.head(self.encoder(self.embed(x), mask=mask)).log_softmax(-1)

    torch.manual_seed(0)
    return case(Encoder(), {"x": (1, "T", 20)}, 1, 21)


@model("transformer", (1, 16, 45))
def transformer() -> Case:
    """`nn.TransformerEncoder` without a mask."""
    return _encoder()


@model("transformer_causal", (1, 16, 45))
def transformer_causal() -> Case:
    """`nn.TransformerEncoder` with a causal mask, norm first, GELU."""
    return _encoder(causal=True, norm_first=True, activation="gelu")


@model("attention_banded", (1, 16, 45))
def attention_banded() -> Case:
    """Two `nn.MultiheadAttention` layers, time first, with a band mask from arange; the weights are returned too."""
    import torch
    from torch import nn

    class Banded(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.MultiheadAttention(24, 3)
            self.second = nn.MultiheadAttention(24, 3, kdim=24, vdim=24, bias=False)

        def forward(self, x):
            index = torch.arange(x.shape[0])
            distance = index[:, None] - index[None, :]
            hidden = (distance < -2) | (distance > 5)
            y, weights = self.first(x, x, x, attn_mask=hidden, need_weights=True)
            z, _ = self.second(y, x, x, need_weights=False)
            return z, weights

    torch.manual_seed(0)
    return case(Banded(), {"x": ("T", 1, 24)}, 0, 21)


@model("conformer", (9, 64, 131))
def conformer() -> Case:
    """A two-block Conformer-CTC on features: subsampling by four, attention, depthwise convolution with batch norm."""
    import torch

    from .conformer import ConformerCTC

    torch.manual_seed(0)
    return case(ConformerCTC(features=20, size=32, heads=4, hidden=64, layers=2, channels=8, tokens=11),
                {"features": (1, "T", 20)}, 1, 77)  # fmt: skip

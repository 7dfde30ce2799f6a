"""EnCodec (Défossez et al. 2022, arXiv:2210.13438) and Mimi (2024, arXiv:2410.00037) as transformers has them."""

from __future__ import annotations

import contextlib

from . import recipe
from .cook import instead

WHY = "sizes kept in tensors make every length a value"
CONVOLUTIONS = (
    "transformers.models.encodec.modeling_encodec.EncodecConv1d",
    "transformers.models.mimi.modeling_mimi.MimiConv1d",
)


def with_numbers(layer, forward, hidden_states, *arguments, **more):
    """The layer with its kernel, stride and padding as numbers."""
    stride, kernel = layer.conv.stride[0], (layer.conv.kernel_size[0] - 1) * layer.conv.dilation[0] + 1
    total = kernel - stride
    numbers = {"stride": stride, "kernel_size": kernel, "padding_total": total}
    if hasattr(layer, "padding_right"):
        numbers |= {"padding_right": total // 2, "padding_left": total - total // 2}
    with contextlib.ExitStack() as until:
        for name, number in numbers.items():
            until.enter_context(instead(layer, name, number))
        return forward(hidden_states, *arguments, **more)


def missing(layer, original, hidden_states):
    """How many frames [batch, channels, frames] lacks to fill its last window: -frames mod stride."""
    return -hidden_states.shape[-1] % layer.conv.stride[0]


for name in CONVOLUTIONS:
    recipe(name, WHY)(with_numbers)
    recipe(name, WHY, method="_get_extra_padding_for_conv1d")(missing)


@recipe(
    "transformers.models.mimi.modeling_mimi.MimiDecoderModel",
    "whether more audio is decoded than went in is a question of every length",
)
def _(model, forward, latents, padding_mask=None, *arguments, **more):
    """The decoded audio [batch, channels, samples], cropped to the mask where it is longer, and no longer asking."""
    out = forward(latents, None, *arguments, **more)
    if padding_mask is not None:
        out.audio_values = out.audio_values[..., : padding_mask.shape[-1]]
    return out

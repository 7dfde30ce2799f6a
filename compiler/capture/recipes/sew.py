"""SEW and SEW-D (Wu et al. 2021, arXiv:2109.06870) as transformers has them."""

from __future__ import annotations

import torch.nn.functional as F

from . import recipe
from .cook import instead

WHY = "whether frames are left over behind the last whole group is a question of every length"


@recipe("transformers.models.sew.modeling_sew.SEWEncoder", WHY)
@recipe("transformers.models.sew_d.modeling_sew_d.SEWDEncoder", WHY)
def _(encoder, forward, hidden_states, *arguments, **more):
    """Upsampling gives all frames of the encoder's input [batch, frames, size] at once; the encoder then adds none."""
    frames, upsampled = hidden_states.shape[1], encoder.upsample.forward

    def all_frames(x):
        y = upsampled(x)
        return F.pad(y, (0, 0, 0, frames - y.shape[1]))

    with instead(encoder.upsample, "forward", all_frames):
        return forward(hidden_states, *arguments, **more)

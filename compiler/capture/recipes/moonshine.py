"""Moonshine (Jeffries et al. 2024, arXiv:2410.15608) as transformers has it."""

from __future__ import annotations

from . import recipe

ANY = "transformers.models.moonshine.modeling_moonshine.MoonshinePreTrainedModel"


@recipe(ANY, "int() of a length makes it a number", method="_get_feat_extract_output_lengths")
def _(model, original, samples):
    """Frames that the three convolutions make of `samples`: each (n - kernel) // stride + 1."""
    frames = samples
    for kernel, stride in ((127, 64), (7, 3), (3, 2)):
        frames = (frames - kernel) // stride + 1
    return frames

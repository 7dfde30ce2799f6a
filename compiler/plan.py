"""The order of passes: one short list per stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir.errors import UsageError
from ..lowering.target import Target
from ..passes.base import Pass, make
from ..passes.free_batch import FreeBatch
from .streaming import fixed_scales

NORMALIZE = ("simplify", "fold-pad", "fold-crop", "fold-pad", "fold", "cse", "dce")
OPTIMIZE = (
    "recognise",
    "recognise-attention",
    "fuse-conv-bn",
    "split-bn",
    "merge-linear",
    "frame-linear-to-conv",
    "pointwise-conv-to-linear",
    "fold-scale",
    "simplify",
    "recognise",
    "fold",
    "cse",
    "dce",
)
# The few rows of a step do not fill a product: queries, keys and values are one. Scales are found for each alone.
STEP = {"float32": ("merge-linear{of=''}",)}
# Fixed scales in 8 bits: first what makes ranges that 8 bits hold better.
BEFORE_FIXED_SCALES = ("smooth", "split-outliers")
AFTER_STREAMING = ("simplify", "fold", "cse", "dce")


def plan(
    target: Target,
    precision: str,
    calibrated: bool,
    integer_ports: bool = False,
    rewrites: Sequence[str] = (),
    step: str | None = None,
    note: Callable[[str], None] = lambda text: None,
    ports: Sequence[str] = (),
    reach: float | None = None,
    keep: str | None = None,
) -> list[Pass]:
    """The passes that bring a captured graph into the target's form at a precision, in order.

    `rewrites` change the meaning so that it can stream; `step` is the streaming pass, which makes the graph of one
    step. `note` is told what streaming leaves in float. `ports` come first of all: what they add is output too.
    `keep`: the quantizer's, where it is not its default (where outputs are integers in any case, the last projection
    need not stay in float, if streamed it is still the whole to the bit). `reach`: the signal-to-noise ratio in dB that
    a graph with fixed 8-bit scales has to come out with.
    """
    if precision not in target.precisions:
        raise UsageError(
            "SC013", f"{target.name} has no precision {precision}", hints=[f"one of {', '.join(target.precisions)}"]
        )
    keep = keep or ("front_end" if integer_ports and target.exact_products else None)
    quantized = [t for text in target.compress(precision, calibrated) for t in _fixed(_keeping(text, keep), reach)]
    compress = (*quantized, *(["integer-ports"] if integer_ports else []))
    streaming: tuple[str, ...] = ()
    if step is not None:
        fixed = fixed_scales(compress, note, make(step).chunk == 1)
        compress, streaming = (*STEP.get(precision, ()), *fixed), (step, *AFTER_STREAMING)
        streams = make(step)
        if streams.batch > 1:
            rewrites = (str(FreeBatch(must=True, own=streams.own)), *rewrites)
    texts = (*ports, *NORMALIZE, *rewrites, *OPTIMIZE, *compress, *streaming, *target.legalize_for(precision))
    return [make(text) for text in texts]


def _keeping(text: str, keep: str | None) -> str:
    """A pass of a target's plan; the quantizer leaves in float what `keep` says."""
    return text if keep is None else text.replace("quantize{", f'quantize{{keep="{keep}", ')


def _fixed(text: str, reach: float | None) -> tuple[str, ...]:
    """A pass of a target's plan; one that fixes 8-bit scales is prepared, and told what to reach."""
    mode = 'mode="static"'
    if mode not in text:
        return (text,)
    return (*BEFORE_FIXED_SCALES, text.replace(mode, f"{mode}, reach={reach}") if reach else text)

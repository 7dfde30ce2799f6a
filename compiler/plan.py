"""The order of passes: one short list per stage."""

from __future__ import annotations

from ..ir.errors import UsageError
from ..lowering.target import Target
from ..passes.base import Pass, make

NORMALIZE = ("simplify", "fold-pad", "fold", "cse", "dce")
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


def plan(target: Target, precision: str, calibrated: bool, integer_ports: bool = False) -> list[Pass]:
    """The passes that bring a captured graph into the target's form at a precision, in order."""
    if precision not in target.precisions:
        raise UsageError(
            "SC013", f"{target.name} has no precision {precision}", hints=[f"one of {', '.join(target.precisions)}"]
        )
    compress = (*target.compress(precision, calibrated), *(["integer-ports"] if integer_ports else []))
    return [make(text) for text in (*NORMALIZE, *OPTIMIZE, *compress, *target.legalize_for(precision))]

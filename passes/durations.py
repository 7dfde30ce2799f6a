"""Durations given in ticks of a clock, as frames of a dimension that follows it at its own rate."""

from __future__ import annotations

from fractions import Fraction

from ..ir.errors import UnsupportedError
from ..ir.graph import Op
from ..ir.types import Time
from .base import Lossy

# What a rewrite loses depends on the model: nothing is promised, the compiler measures it.
MEASURED = Lossy("snr", float("-inf"))


def frames_of(ticks: int, time: Time, what: str, op: Op, least: int = 1) -> int:
    """`ticks` of the clock as whole frames of `time`, at least `least`. Raises `UnsupportedError` SC212."""
    frames = Fraction(ticks) * time.rate
    if frames.denominator == 1 and frames >= least:
        return int(frames)
    step = time.rate.denominator
    raise UnsupportedError(
        "SC212",
        f"{what} of {ticks} ticks of {time.clock} {_is(frames)} at {op.kind}, which has {time.rate} frames a tick",
        where=[str(op.loc)],
        hints=[f"a multiple of {step} ticks{'' if least else ', or 0'}"],
    )


def chunks_of(frames: int, chunk: int, time: Time, what: str, op: Op) -> int:
    """`frames` in whole chunks of `chunk` frames. Raises `UnsupportedError` SC212."""
    if frames % chunk == 0:
        return frames // chunk
    ticks = Fraction(chunk) / time.rate
    raise UnsupportedError(
        "SC212",
        f"{what} of {frames} frames is not a whole number of chunks of {chunk} frames at {op.kind}",
        where=[str(op.loc)],
        hints=[f"a multiple of {ticks} ticks of {time.clock}"],
    )


def _is(frames: Fraction) -> str:
    return "is less than a frame" if frames < 1 else f"is {float(frames):g} frames"

"""Durations as users write them ("320ms", "2.5s", "12 frames"), in ticks of the clock: frames of the model's input."""

from __future__ import annotations

import re
from fractions import Fraction

from ..ir.errors import UsageError
from ..ir.graph import Graph, Module
from ..ir.types import Tensor

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|frames?|samples?)?\s*$")
_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1)}
WAY_OUT = 'write "320ms", "2.5s" or "12 frames" (of the model\'s input)'


def ticks(text: str | int, hz: Fraction | None, what: str) -> int:
    """How many ticks a duration lasts where the input has `hz` frames a second; a bare number counts frames.

    Raises `UsageError`: SC047 where the text is no duration, SC048 where it wants a rate and there is none, SC049 where
    it is not a whole number of ticks.
    """
    found = _DURATION.match(str(text))
    if not found:
        raise UsageError("SC047", f"{what} {text!r} is no duration", hints=[WAY_OUT])
    number, unit = Fraction(found[1]), found[2]
    if unit in _SECONDS and number:
        if hz is None:
            raise UsageError(
                "SC048",
                f"{what} {text}: how many frames of its input the model takes a second is not known",
                hints=["--sample-rate HZ for a model of raw audio", "--frame-shift 10ms for one of features",
                       "a number of frames: \"32 frames\""],
            )  # fmt: skip
        number *= _SECONDS[unit] * hz
    if number.denominator != 1:
        near = [n for n in (number.__floor__(), number.__ceil__()) if n]
        says = " or ".join(duration_text(n, hz) if unit in _SECONDS else f"{n} frames" for n in near)
        raise UsageError(
            "SC049", f"{what} {text} is {float(number):g} frames of the input, not a whole number", hints=[says]
        )
    return int(number)


def duration_text(n: int, hz: Fraction | None) -> str:
    """Ticks as a user would write them: ms where the rate is known and they are exact, else frames."""
    ms = Fraction(n) * 1000 / hz if hz else None
    if ms is None or (ms * 1000).denominator != 1:
        return f"{n} frame{'' if n == 1 else 's'}"
    return f"{float(ms):g}ms" if ms < 10000 else f"{float(ms / 1000):g}s"


def in_time(text: str, hz: Fraction | None) -> str:
    """A message of a pass, which counts input frames (ticks), with each such count in ms as well."""

    def both(found: re.Match) -> str:
        n = duration_text(int(found[1]), hz)
        return found[0] if "frame" in n else f"{found[0]} ({n})"

    return re.sub(r"\b(\d+) (?:input frames|ticks(?: of \w+)?)", both, text)


def tick_rate(module: Module, sample_rate: int | None = None, frame_shift: str | None = None) -> Fraction | None:
    """Frames of the first streaming input a second, where that is known.

    From `frame_shift` ("10ms"); for raw audio from `sample_rate` or what the model's file says; else None. Raises
    `UsageError` SC047 where `frame_shift` is no duration.
    """
    if frame_shift is not None:
        found = _DURATION.match(frame_shift)
        if not found or found[2] not in _SECONDS or not Fraction(found[1]):
            raise UsageError("SC047", f"--frame-shift {frame_shift!r} is no duration", hints=["--frame-shift 10ms"])
        return 1 / (Fraction(found[1]) * _SECONDS[found[2]])
    if sample_rate is None and module.meta.get("tick_hz"):
        return Fraction(str(module.meta["tick_hz"]))
    first = streaming_input(next(iter(module.graphs.values())))
    rate = sample_rate or module.meta.get("sample_rate")
    return Fraction(rate) if rate and first is not None and raw_audio(first) else None


def streaming_input(graph: Graph) -> Tensor | None:
    """The type of the first input with a time dimension."""
    return next((v.type for v in graph.inputs if any(d.time is not None for d in v.type.shape)), None)


def raw_audio(type: Tensor) -> bool:
    """Whether an input is samples rather than features: beside time and the batch (its first axis) all sizes are 1."""
    return all(d.time is not None or i == 0 or d.size == 1 for i, d in enumerate(type.shape)) and type.is_float

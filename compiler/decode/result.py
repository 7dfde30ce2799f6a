"""What a search found, for people: texts with scores, and tokens with times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .prefix import Hypothesis


@dataclass(frozen=True)
class Alternative:
    """A text that was found; `score` and `acoustic` are natural logarithms, as in `Hypothesis`.

    `times` are ms of audio at which each of `tokens` was emitted (None: frames have no known times).
    """

    text: str
    score: float
    acoustic: float
    tokens: list[str]
    times: list[float] | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        numbers = {"score": round(self.score, 6), "acoustic": round(self.acoustic, 6)}
        return {"text": self.text, **numbers, "tokens": self.tokens, "times_ms": self.times}


def told(
    found: Sequence[Hypothesis],
    tokens: Sequence[str],
    text: Callable[[Sequence[int]], str],
    frame_ms: Fraction | None,
) -> list[Alternative]:
    """Hypotheses of a model with these `tokens`, as texts; frames are `frame_ms` apart."""
    return [
        Alternative(
            text(h.tokens),
            h.score,
            h.acoustic,
            [tokens[t] for t in h.tokens],
            None if frame_ms is None else [round(t, 3) for t in h.times(frame_ms)],
        )
        for h in found
    ]

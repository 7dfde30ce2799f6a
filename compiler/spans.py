"""Where scores of frames begin and end a detection: two thresholds, shortest lengths, bridged gaps, margins."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..ir.errors import UsageError
from .decode.number import number

# What an author's own tools do by default; `like=NAME`.
PRESETS: dict[str, dict[str, float]] = {
    # get_speech_timestamps of github.com/snakers4/silero-vad; its `release` is `threshold` - 0.15
    "silero": {"threshold": 0.5, "least_ms": 250, "gap_ms": 100, "margin_ms": 30},
    # microWakeWord's models: the mean of five scores
    "microwakeword": {"threshold": 0.9, "smooth": 5},
}
BELOW = 0.15  # Silero's release, below its threshold
LOWEST = 0.01


@dataclass(frozen=True)
class Rule:
    """A detection begins at a score of `threshold`, and ends where scores stay below `release` for `gap_ms`.

    It ends where they fell, is left out if it is not longer than `least_ms`, and gets `margin_ms` on both sides (half
    of what lies between two that are nearer than that). With `smooth` a frame's score is the mean of the last so many
    (of those that there are, at the start).
    """

    threshold: float = 0.5
    release: float = 0.5
    least_ms: float = 0.0
    gap_ms: float = 0.0
    margin_ms: float = 0.0
    smooth: int = 1

    @staticmethod
    def of(about: Mapping[str, Any]) -> Rule:
        """The rule that options say, among others. Raises `UsageError` SC090 for a value that cannot be."""
        given = {f.name: about[f.name] for f in fields(Rule) if about.get(f.name) is not None}
        like = about.get("like")
        if like is not None and str(like) not in PRESETS:
            raise UsageError("SC090", f"like={like}: one of {', '.join(PRESETS)}")
        given = PRESETS.get(like, {}) | given
        numbers = {n: number(n, v, int if n == "smooth" else float) for n, v in given.items()}
        threshold = numbers.setdefault("threshold", Rule.threshold)
        numbers.setdefault("release", max(threshold - BELOW, LOWEST) if like == "silero" else threshold)
        rule = Rule(**numbers)
        if rule.release > threshold or rule.smooth < 1 or min(rule.least_ms, rule.gap_ms, rule.margin_ms) < 0:
            raise UsageError(
                "SC090", "release is at most threshold, smooth at least 1, and no duration is below 0: " + str(rule)
            )
        return rule


OPTIONS = ("labels", "output", "like", *(f.name for f in fields(Rule)))  # how scores are read


def detection(about: Mapping[str, Any]) -> dict[str, Any]:
    """How the scores of a file are to be read, for its manifest. Raises `UsageError` SC053, and SC090 as `Rule.of`."""
    if unknown := sorted(set(about) - set(OPTIONS)):
        raise UsageError("SC053", f"detections have no {', '.join(unknown)}: they have {', '.join(OPTIONS)}")
    Rule.of(about)
    labels = about.get("labels")
    return dict(about) | ({"labels": labels.split("/")} if isinstance(labels, str) else {})


@dataclass
class Span:
    """One detection: first second, last second, highest score, and whether it goes on."""

    start: float
    end: float
    score: float
    going: bool = True


class Spans:
    """The detections of one label, frame by frame; `frame` in seconds (None: one score for the whole recording)."""

    def __init__(self, rule: Rule, frame: float | None):
        self.rule, self.frame = rule, frame
        self.found: list[Span] = []  # without margins; the last may be too short yet
        self.count = 0
        self.quiet: float | None = None  # since when scores have been below the release
        self.recent: deque[float] = deque(maxlen=rule.smooth)

    def add(self, score: float) -> bool:
        """Take in the score of the next frame; whether a detection was found, or ended."""
        self.recent.append(score)
        score = sum(self.recent) / len(self.recent)
        start, end = (0.0, float("inf")) if self.frame is None else (self.at(self.count), self.at(self.count + 1))
        self.count += 1
        last = self.found[-1] if self.found and self.found[-1].going else None
        if last is None:
            if score < self.rule.threshold:
                return False
            self.found.append(Span(start, end, score))
            return self._long(self.found[-1])
        told, last.end = self._long(last), end
        if score >= self.rule.threshold:
            self.quiet, last.score = None, max(last.score, score)
        elif score < self.rule.release:
            self.quiet = start if self.quiet is None else self.quiet
            if start - self.quiet >= self.rule.gap_ms / 1000 - 1e-9:
                return self._end(told)
        return told != self._long(last)

    def _end(self, told: bool) -> bool:
        last = self.found[-1]
        last.end, last.going, self.quiet = self.quiet, False, None
        if not (kept := self._long(last)):
            self.found.pop()
        return kept or told

    def close(self) -> None:
        """The recording ends here: a detection that goes on lasts until then."""
        self.quiet = None

    def at(self, frame: int) -> float:
        """The second at which a frame begins."""
        return frame * self.frame

    def told(self) -> list[Span]:
        """Those that are long enough by now, with their margins."""
        margin, spans, behind = self.rule.margin_ms / 1000, [], 0.0
        for span in filter(self._long, self.found):
            before = margin
            if spans and span.start - behind < 2 * margin:
                before = (span.start - behind) / 2
                spans[-1].end = behind + before
            behind = span.end
            end = span.end if span.going else span.end + margin
            spans.append(Span(max(0.0, span.start - before), end, span.score, span.going))
        return spans

    def _long(self, span: Span) -> bool:
        end = self.quiet if span.going and self.quiet is not None else span.end
        return end - span.start > self.rule.least_ms / 1000 + (1e-9 if self.rule.least_ms else 0)

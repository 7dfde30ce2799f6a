"""What Whisper's decoder is told, and what it may say (Radford et al. 2022, section 2.3; rules of openai/whisper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ...ir.errors import UsageError
from .task import Span, Task, family

STAMP = 0.02  # s from one timestamp token to the next
FIRST = 1.0  # s: the latest first timestamp


@family("whisper")
class Whisper(Task):
    """Transcribes, or translates into English, with or without timestamps.

    Options: `language` (a code; None: what the model finds the likeliest), `task`, `timestamps`, and `previous`, the
    tokens said before this recording.
    """

    options = ("language", "task", "timestamps", "previous")

    def __init__(self, decoding: Mapping[str, Any], tokens: Sequence[str], **options: Any):
        super().__init__(decoding, tokens, **options)
        self.special: Mapping[str, int] = decoding["special"]
        self.language, self.task = options.get("language"), options.get("task", "transcribe")
        self.timestamps, self.previous = bool(options.get("timestamps")), list(options.get("previous") or ())
        if self.task not in ("transcribe", "translate"):
            raise UsageError("SC053", f"task {self.task}: transcribe or translate")
        if self.language is not None and self.language not in self.languages:
            raise UsageError("SC053", f"language {self.language}: one of {', '.join(self.languages)}")

    @cached_property
    def languages(self) -> dict[str, int]:
        """The languages that there are tokens for: the special ones between the start and the tasks."""
        first, last = self.special["start"] + 1, min(self.special["translate"], self.special["transcribe"])
        return {self.tokens[i].strip("<|>"): i for i in range(first, last)}

    @property
    def probe(self) -> list[int]:
        """The start alone: a language follows it (section 2.3 of the paper)."""
        return [] if self.language is not None else [self.special["start"]]

    def settled(self, scores: np.ndarray) -> Whisper:
        """With the language that the model finds the likeliest."""
        names = list(self.languages)
        return self._with(language=names[int(scores[[self.languages[n] for n in names]].argmax())])

    def timed(self) -> Whisper:
        """With timestamps."""
        return self._with(timestamps=True)

    def _with(self, **changed: Any) -> Whisper:
        options = {name: getattr(self, name) for name in self.options}
        return Whisper(self.decoding, self.tokens, **(options | changed))

    @property
    def end(self) -> int:
        """The token that ends a text."""
        return self.special["end"]

    @property
    def prompt(self) -> list[int]:
        """What the decoder is fed before it says anything; the language must be settled."""
        if self.language is None:
            raise ValueError("the language is not settled")
        most = self.decoding["most"] // 2 - 1
        before = [self.special["previous"], *self.previous[-most:]] if self.previous else []
        task = [self.special["start"], self.languages[self.language], self.special[self.task]]
        return [*before, *task, *([] if self.timestamps else [self.special["no_timestamps"]])]

    @property
    def stamps(self) -> int:
        """The number of the timestamp 0.00; all from there on are timestamps."""
        return self.special["no_timestamps"] + 1

    @cached_property
    def _forbidden(self) -> np.ndarray:
        """Tokens that are never said."""
        never = np.zeros(len(self.tokens), bool)
        never[self.end + 1 :] = True
        never[list(self.decoding.get("suppress") or ())] = True
        if self.timestamps:
            never[self.stamps :] = False
        return never

    def rules(self, said: Sequence[int], scores: np.ndarray) -> np.ndarray:
        """The scores of what may follow the tokens `said`; -inf for what may not."""
        scores = np.where(self._forbidden[: len(scores)], -np.inf, scores)
        if not said:
            scores[[*(self.decoding.get("suppress_first") or ()), self.end]] = -np.inf
        return self._stamped(said, scores) if self.timestamps else scores

    def _stamped(self, said: Sequence[int], scores: np.ndarray) -> np.ndarray:
        """Timestamps come in pairs, but at the start and the end; they never go back; the first is early."""
        begin = self.stamps
        last = bool(said) and said[-1] >= begin
        if last and (len(said) < 2 or said[-2] >= begin):
            scores[begin:] = -np.inf
        elif last:
            scores[: self.end] = -np.inf
        if stamped := [t for t in said if t >= begin]:
            scores[begin : stamped[-1] + (not last or len(said) < 2 or said[-2] >= begin)] = -np.inf
        if not said:
            scores[:begin] = -np.inf
            scores[begin + round(FIRST / STAMP) + 1 :] = -np.inf
        top = scores.max()
        if np.isfinite(top) and np.isfinite(scores[begin:]).any():
            weight = np.exp(scores - top)
            if weight[begin:].sum() > weight[:begin].max():
                scores[:begin] = -np.inf
        return scores

    def words(self, said: Sequence[int]) -> list[int]:
        """The tokens that are text: those below the special ones."""
        return [t for t in said if t < self.end]

    def spans(self, said: Sequence[int]) -> list[Span] | None:
        """By the timestamps among what was said."""
        if not self.timestamps:
            return None
        found: list[Span] = []
        start, words = None, []
        for token in said:
            if token < self.stamps:
                words.append(token)
                continue
            at = round((token - self.stamps) * STAMP, 2)
            if words:
                found.append((start or 0.0, at, words))
                start, words = None, []
            else:
                start = at
        return [*found, (start or 0.0, None, words)] if words else found

    def resume(self, said: Sequence[int]) -> float | None:
        """The last time at which one span ends and the next begins; None where a time ends what was said."""
        stamped = [t >= self.stamps for t in said]
        pairs = [t for t, *both in zip(said[1:], stamped, stamped[1:]) if all(both)]
        if not pairs or stamped[-2:] == [False, True]:
            return None
        return round((pairs[-1] - self.stamps) * STAMP, 2) or None

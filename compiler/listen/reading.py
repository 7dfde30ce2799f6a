"""A recording that an attention decoder hears window by window, each from where the last one's timestamps ended.

The method is Whisper's for long recordings (Radford et al. 2022, section 3.8), without its second tries at other
temperatures and without the text before as a prompt: every window stands for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.errors import UsageError
from ..decode.attention import Hypothesis
from ..decode.task import Task


@dataclass
class Spoken:
    """What was said from when to when (seconds), and the mean probability of the tokens of its window."""

    start: float
    end: float
    tokens: list[int]
    score: float


class Reading:
    """A recording, float32[n], and what was made of it so far; `window`: the samples that the encoder takes.

    Raises `UsageError` SC112 where it is longer than that and the task tells no times.
    """

    def __init__(self, samples: np.ndarray, window: int, rate: int, task: Task):
        self.samples, self.window, self.rate, self.task = samples, window, rate, task
        self.at = 0  # samples heard
        self.done = False
        self.words: list[int] = []
        self.spoken: list[Spoken] = []
        self.unfinished: list[int] = []  # tokens of windows whose text did not end
        if len(samples) > window:
            timed = task.timed()
            if timed is None:
                said = f"the recording has {len(samples)} samples; the model takes {window} at most"
                raise UsageError("SC112", said)
            self.task = timed

    @property
    def seconds(self) -> float:
        """Of the whole recording."""
        return len(self.samples) / self.rate

    @property
    def audio(self) -> np.ndarray:
        """The next window."""
        return self.samples[self.at : self.at + self.window]

    def take(self, best: Hypothesis) -> None:
        """What the decoder said of the next window."""
        if not best.ended:
            self.unfinished.append(len(best.tokens))
        start, resume = self.at / self.rate, self.task.resume(best.tokens)
        spans, words = self.task.spans(best.tokens), self.task.words(best.tokens)
        if resume is not None:  # what goes on behind the last timestamp is heard again, whole
            spans = [s for s in spans if s[1] is not None]
            words = [t for _, _, tokens in spans for t in tokens]
        for a, b, tokens in spans or ():
            end = self.seconds if b is None else min(start + b, self.seconds)
            self.spoken.append(Spoken(start + a, end, tokens, float(np.exp(np.mean(best.each)))))
        self.words += words
        self.at += self.window if resume is None else round(resume * self.rate)
        self.done = self.at >= len(self.samples)

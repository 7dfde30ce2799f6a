"""What a decoder is asked to do, by family of models: its prompt, what it may say, and what of that is text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...ir.errors import UsageError

FAMILIES: dict[str, type[Task]] = {}
Span = tuple[float, float | None, list[int]]  # start and end in seconds (None: beyond the recording), tokens


def family(name: str):
    """Register a family of models."""

    def add(cls: type[Task]) -> type[Task]:
        FAMILIES[name] = cls
        return cls

    return add


class Task(ABC):
    """One task for a decoder. `decoding` is the bundle's record of it, `tokens` the list of tokens."""

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, decoding: Mapping[str, Any], tokens: Sequence[str], **options: Any):
        if unknown := sorted(set(options) - set(self.options)):
            has = ", ".join(self.options) or "none"
            raise UsageError("SC053", f"this model has no option {', '.join(unknown)} (it has {has})")
        self.decoding, self.tokens = decoding, tokens

    @property
    @abstractmethod
    def prompt(self) -> list[int]:
        """What the decoder is fed before it says anything."""

    @property
    @abstractmethod
    def end(self) -> int:
        """The token that ends a text."""

    @property
    def most(self) -> int:
        """The most tokens behind the prompt."""
        return self.decoding["most"] - len(self.prompt)

    @property
    def probe(self) -> list[int]:
        """What the decoder is fed first where only it can say what the task is, such as the language; else nothing."""
        return []

    def settled(self, scores: np.ndarray) -> Task:
        """The task for a recording, by the scores[tokens] behind `probe`."""
        return self

    def timed(self) -> Task | None:
        """The same task with timestamps, from the last of which a next window can go on; None: it has none."""
        return None

    def rules(self, said: Sequence[int], scores: np.ndarray) -> np.ndarray:
        """The scores of what may follow the tokens `said`; -inf for what may not."""
        return scores

    def words(self, said: Sequence[int]) -> list[int]:
        """The tokens that are text."""
        return list(said)

    def spans(self, said: Sequence[int]) -> list[Span] | None:
        """What was said when, where the tokens tell."""
        return None

    def resume(self, said: Sequence[int]) -> float | None:
        """Seconds behind which the next window of a long recording begins; None: behind all of this one."""
        return None


@family("plain")
class Plain(Task):
    """A start token, text, an end token; `decoding` holds their numbers as `start` and `end`."""

    @property
    def prompt(self) -> list[int]:
        """The start alone."""
        return [self.decoding["start"]]

    @property
    def end(self) -> int:
        """See the class."""
        return self.decoding["end"]

"""What models heard: greedy CTC text of scores or token numbers, and the word error rate against texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ir.errors import UsageError
from ..lowering.manifest import Port
from ..passes.greedy_ctc import TOKENS
from .evaluate.counts import count_words

BLANKS = ("<blank>", "<blk>", "<pad>", "[PAD]", "<b>")
SPACES = ("|", "\u2581")  # how token lists write the space between words


class Greedy:
    """Greedy CTC decoding (Graves et al. 2006) of frames as they come: repeats merged, blanks left out.

    `blank` is found by its name where it is not given, and is the first token where it has none; -1: there is no blank.
    """

    def __init__(self, tokens: Sequence[str], blank: int | None = None):
        self.tokens, self.said, self.last = tokens, [], -1
        names = [t.strip() for t in tokens]
        self.blank = next((names.index(b) for b in BLANKS if b in names), 0) if blank is None else blank

    def add(self, array: np.ndarray) -> None:
        """Take in scores [1, frames, tokens], or numbers [1, frames] (-1: blank, or a repeat merged already).

        Raises `UsageError` SC091 for a frame of scores with NaN, or of -inf alone.
        """
        if array.ndim == 3 and not (array[0].max(-1) > -np.inf).all():
            raise UsageError("SC091", "a frame gives no class any probability: NaN, or all -inf")
        best = array[0].argmax(-1) if array.ndim == 3 else array[0]
        for token in best.reshape(-1).tolist():
            if token not in (self.last, self.blank) and 0 <= token < len(self.tokens):
                self.said.append(token)
            self.last = token  # -1, of an output that merges repeats itself: a token after it is a new one

    @property
    def text(self) -> str:
        """The tokens so far as text."""
        return spelled(self.said, self.tokens)


def spelled(numbers: Iterable[int], tokens: Sequence[str]) -> str:
    """Tokens by number as text: joined where the list marks the spaces itself, else with spaces between."""
    marks = any(t == " " or t.startswith(SPACES) for t in tokens)
    joined = ("" if marks else " ").join(tokens[n] for n in numbers)
    for mark in SPACES:
        joined = joined.replace(mark, " ") if marks else joined
    return joined.strip()


def speaking(ports: Iterable[Port], tokens: Sequence[str] | None) -> str | None:
    """The output that scores the tokens, [1, frames, tokens], or gives their numbers, [1, frames]; None: no such.

    Where the compiler put the decoding into the file (`--ctc`), it is that.
    """
    for p in sorted(ports, key=lambda p: not decoded(p)) if tokens else ():
        scores = len(p.shape) == 3 and p.shape[2] == len(tokens)
        numbers = len(p.shape) == 2 and p.time is not None and p.time["axis"] == 1 and p.dtype in ("i32", "i64")
        if scores or (numbers and not p.name.endswith(".range")):
            return p.name
    return None


def decoded(port: Port) -> bool:
    """Whether an output is what greedy CTC left of the frames: no blanks to drop, no repeats to merge."""
    return port.name == TOKENS and port.dtype == "i32" and len(port.shape) == 2 and port.time is not None


@dataclass
class WordErrors:
    """Word error rates on the recordings with texts, by what was run, and how many words there are."""

    rates: dict[str, float]
    words: int
    recordings: int
    left_out: dict[str, int] = field(default_factory=dict)  # recordings, by reason

    def __str__(self) -> str:
        left = ", ".join(f"{n} {kind}" for kind, n in self.left_out.items())
        if not self.rates:
            return f"not counted: all {sum(self.left_out.values())} recordings are left out: {left}"
        shown = ", ".join(f"{name} {100 * rate:.1f} %" for name, rate in self.rates.items())
        return f"{shown} ({self.words} words, {self.recordings} recordings{left and f'; left out: {left}'})"

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "rates": self.rates,
            "words": self.words,
            "recordings": self.recordings,
            "left_out": sum(self.left_out.values()),
            "reasons": self.left_out,
        }


def measure(
    runs: dict[str, Callable[[np.ndarray], np.ndarray]],
    samples: list[tuple[np.ndarray, str]],
    tokens: Sequence[str],
    blank: int | None = None,
) -> WordErrors:
    """The word error rate of every way to run the model: each gives the speaking output for a recording."""
    total = sum(len(text.split()) for _, text in samples)
    rates = {}
    for name, run in runs.items():
        wrong = 0
        for audio, text in samples:
            greedy = Greedy(tokens, blank)
            greedy.add(run(audio))
            wrong += count_words(text, greedy.text).errors
        rates[name] = wrong / total
    return WordErrors(rates, total, len(samples))

"""n-gram language models: ARPA files read here, binary ones by kenlm where it is installed."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from ...ir.errors import UsageError
from ...lowering.target import needs

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
LN10 = math.log(10)
LEAST = -100.0  # log10 of a word that is not in the model, where it has no <unk>; what kenlm gives such a word
SECTION, COUNT = re.compile(r"\\(\d+)-grams:$"), re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)$")


class NGrams(Protocol):
    """An n-gram model over words. Natural logarithms; states are the words that still matter."""

    def start(self) -> Hashable:
        """The state at the beginning of a sentence."""

    def next(self, state: Hashable, word: str) -> tuple[float, Hashable]:
        """log p(word | state), and the state behind it."""

    def end(self, state: Hashable) -> float:
        """log p(end of sentence | state)."""

    def __contains__(self, word: str) -> bool:
        """Whether the model has the word."""


class Arpa:
    """A backoff model (Katz 1987) as ARPA files hold it (Doug Paul; the `ngram-format` page of SRILM).

    `grams` are {words: (log10 probability, log10 backoff weight)}.
    """

    def __init__(self, order: int, grams: dict[tuple[str, ...], tuple[float, float]]):
        self.order, self.grams = order, grams
        unknown = next((w for w in (UNKNOWN, UNKNOWN.upper()) if (w,) in grams), None)
        self.unknown = unknown or UNKNOWN

    def __contains__(self, word: str) -> bool:
        return (word,) in self.grams

    def start(self) -> tuple[str, ...]:
        """The state at the beginning of a sentence."""
        return self._kept((BEGIN,))

    def next(self, state: tuple[str, ...], word: str) -> tuple[float, tuple[str, ...]]:
        """log p(word | state), and the state behind it."""
        word = word if (word,) in self.grams else self.unknown
        return LN10 * self._log10(state, word), self._kept((*state, word))

    def end(self, state: tuple[str, ...]) -> float:
        """log p(end of sentence | state)."""
        return LN10 * self._log10(state, END)

    def _log10(self, context: tuple[str, ...], word: str) -> float:
        lost = 0.0
        while True:
            found = self.grams.get((*context, word))
            if found is not None:
                return lost + found[0]
            if not context:
                return lost + LEAST
            lost += self.grams.get(context, (0.0, 0.0))[1]
            context = context[1:]

    def _kept(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """The longest end of a history that the model has: what is before it changes no probability."""
        kept = words[max(len(words) - self.order + 1, 0) :]
        while kept and kept not in self.grams:
            kept = kept[1:]
        return kept


class Kenlm:
    """A model in kenlm's own format (Heafield 2011)."""

    def __init__(self, path: Path):
        self._kenlm = needs("kenlm", "lm")
        try:
            self._model = self._kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise UsageError("SC092", f"{path} is no language model: {error}") from None

    def __contains__(self, word: str) -> bool:
        return word in self._model

    def start(self) -> Hashable:
        """The state at the beginning of a sentence."""
        state = self._kenlm.State()
        self._model.BeginSentenceWrite(state)
        return state

    def next(self, state: Hashable, word: str) -> tuple[float, Hashable]:
        """log p(word | state), and the state behind it."""
        after = self._kenlm.State()
        return LN10 * self._model.BaseScore(state, word, after), after

    def end(self, state: Hashable) -> float:
        """log p(end of sentence | state)."""
        return self.next(state, END)[0]


def open_lm(path: str | Path) -> NGrams:
    """The model in an ARPA file (`.arpa`, also `.gz`), or a binary one of kenlm (any other name).

    Raises `UsageError` SC092 for a file that is neither, SC010 for none; `MissingError` SC800 without kenlm.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError("SC010", f"{path} does not exist, or is no file")
    with path.open("rb") as file:
        start = file.read(64)
    if b"mmap lm" in start:
        return Kenlm(path)
    opened = gzip.open if start.startswith(b"\x1f\x8b") else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            return read_arpa(file, str(path))
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile):
        raise UsageError("SC092", f"{path} is no ARPA file, nor one of kenlm") from None


def read_arpa(lines: Iterable[str], name: str = "the text") -> Arpa:
    r"""A model from the lines of an ARPA file: `\data\`, counts, `\1-grams:` …, `\end\`.

    Raises `UsageError` SC092 where it is malformed, cut off, or holds another number of n-grams than it says.
    """
    wrong = lambda number, why: UsageError("SC092", f"{name}, line {number}: {why}")
    counts: dict[int, int] = {}
    grams: dict[tuple[str, ...], tuple[float, float]] = {}
    order, seen, number = -1, 0, 0  # order -1: before \data\; 0: the counts

    def complete(at: int) -> None:
        if order > 0 and counts.get(order) != seen:
            raise wrong(at, f"{seen} {order}-grams, and the head says {counts.get(order, 'none')}")

    for number, line in _lines(lines):
        if order < 0:
            order = 0 if line == "\\data\\" else -1
        elif line == "\\end\\":
            complete(number)
            if not counts or order != max(counts):
                raise wrong(number, f"it ends after {order}-grams of {max(counts, default=0)}")
            return Arpa(order, grams)
        elif (found := SECTION.match(line)) is not None:
            complete(number)
            order, seen = order + 1, 0
            if int(found[1]) != order:
                raise wrong(number, f"{line} where \\{order}-grams: is due")
        elif order == 0:
            if (found := COUNT.match(line)) is None:
                raise wrong(number, f"not a count: {line[:60]}")
            counts[int(found[1])] = int(found[2])
        else:
            words, values = _gram(line, order)
            if values is None:
                raise wrong(number, f"not a {order}-gram: {line[:60]}")
            grams[words] = values
            seen += 1
    raise UsageError("SC092", f"{name} is no whole ARPA file: {'it has no end' if order >= 0 else 'it has no head'}")


def _lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        if text := line.strip():
            yield number, text


def _gram(line: str, order: int) -> tuple[tuple[str, ...], tuple[float, float] | None]:
    """(words, (log10 p, log10 backoff)) of a line; None for the numbers where it is none of that order."""
    first, *rest = line.split()
    try:
        values = (float(first), float(rest[order]) if len(rest) > order else 0.0)
    except ValueError:
        return (), None
    if len(rest) not in (order, order + 1) or any(math.isnan(v) or v == math.inf for v in values):
        return (), None
    return tuple(rest[:order]), tuple(max(v, LEAST) if v == -math.inf else v for v in values)

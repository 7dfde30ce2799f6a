"""Errors of one text against another: substitutions, deletions and insertions of words or characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...lowering.target import needs


@dataclass(frozen=True)
class Counts:
    """Errors against references of `length` words (or characters)."""

    length: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        """Of all three sorts."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors for each word of the reference; it can be over 1. None where the reference has none."""
        return self.errors / self.length if self.length else None

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.length + other.length,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain data for JSON."""
        return {
            "rate": self.rate,
            "errors": self.errors,
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
            "length": self.length,
        }


def count(said: Sequence[str], heard: Sequence[str]) -> Counts:
    """The fewest changes that make `said` (the reference) into `heard` (Levenshtein 1966), by sort.

    Words where both are lists, characters where both are text.
    """
    kinds = [op.tag for op in needs("rapidfuzz.distance", "audio").Levenshtein.editops(said, heard)]
    return Counts(len(said), kinds.count("replace"), kinds.count("delete"), kinds.count("insert"))


def count_words(said: str, heard: str) -> Counts:
    """Errors of the words that spaces part."""
    return count(said.split(), heard.split())


def total(counts: Iterable[Counts]) -> Counts:
    """All together."""
    return sum(counts, Counts())


def marked(said: str, heard: str) -> str:
    """What was heard, its errors marked: `[other]` for a word, `[+more]` for none, `[-word]` where it is missing."""
    a, b, out = said.split(), heard.split(), []
    for op in needs("rapidfuzz.distance", "audio").Levenshtein.opcodes(a, b):
        if op.tag == "equal":
            out += b[op.dest_start : op.dest_end]
        elif op.tag == "delete":
            out += [f"[-{w}]" for w in a[op.src_start : op.src_end]]
        else:
            sign = "+" if op.tag == "insert" else ""
            out += [f"[{sign}{w}]" for w in b[op.dest_start : op.dest_end]]
    return " ".join(out)

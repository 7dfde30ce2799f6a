"""What a page is made of: sections of facts, tables, plots and lists, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..show_stream import size_text

DASH = "–"


@dataclass
class Cell:
    """One cell: its text, whether it is a number, the share of a bar behind it (0 to 1), and how it is judged.

    `state` is "", "good" or "bad".
    """

    text: str
    number: bool = False
    bar: float | None = None
    state: str = ""


@dataclass
class Table:
    """Rows under headings; the first cell of a row names it. Rows beyond `shown` are folded away."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    shown: int = 24

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [any(row[i].number for row in self.rows) for i in range(len(self.headings))]


@dataclass
class Plot:
    """A drawing as SVG, with a sentence that says what is in it."""

    caption: str
    svg: str


@dataclass
class Section:
    """A part of a page; what it does not have is left out."""

    id: str
    title: str
    verdict: str = ""  # a short judgement beside the title
    good: bool | None = None
    intro: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


def text(value: Any) -> Cell:
    """A cell of text."""
    return Cell(DASH if value is None or value == "" else str(value))


def number(value: float | None, form: str = "{:g}", bar: float | None = None, state: str = "") -> Cell:
    """A cell with a number; a dash where there is none."""
    return Cell(DASH if value is None else form.format(value), True, bar, state)


def decibels(snr: float | None, bar: float | None = None) -> Cell:
    """An SNR; None stands for no noise at all."""
    return Cell("exact" if snr is None else f"{snr:.1f} dB", True, bar)


def bytes_of(n: float | None, bar: float | None = None) -> Cell:
    """A size."""
    return Cell(DASH if n is None else size_text(int(n)), True, bar)


def percent(share: float | None, digits: int = 1, bar: float | None = None) -> Cell:
    """A share as percent."""
    return Cell(DASH if share is None else f"{100 * share:.{digits}f} %", True, bar)


def milliseconds(ms: float | None) -> Cell:
    """A time."""
    return Cell(DASH if ms is None else f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms", True)


def share(n: float | None, most: float | None) -> float | None:
    """How long a bar is."""
    return None if not n or not most else max(0.0, min(1.0, n / most))

"""What `speechc eval` prints: rates with their intervals, the comparison, the worst utterances, what was left out."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..show_heard import tables
from .counts import Counts, marked
from .evaluation import Evaluation, Utterance


def show(found: Evaluation, out: Console, most: int) -> None:
    """The results on standard output."""
    words, first = found.results[0].words.length, found.results[0]
    left = len(found.left_out) + len(found.without_text)
    out.print(
        f"{len(found.utterances)} recordings, {found.seconds:.1f} s, {words} words, "
        f"{first.characters.length} characters; text: {found.normalise}"
        + (f"; [bold]{left} recordings not counted[/]" if left else "")
    )
    for table in _tables(found):
        out.print()
        out.print(table)
    if found.without_text:
        extra = ", ".join(f"{r.name} {r.extra_words}" for r in found.results)
        out.print(f"\n{len(found.without_text)} recordings whose text has nothing in it; words heard there: {extra}")
    for heading, worst in worst_by_heading(found, most):
        out.print(f"\n{heading} ([other word], [+more], [-missing]):", markup=False)
        for utterance in worst:
            out.print(_side_by_side(found, utterance))
    for table in tables(found.left_out, found.notes):
        out.print()
        out.print(table)
    for verdict in found.verdicts:
        out.print(str(verdict), markup=False)


def worst_by_heading(found: Evaluation, most: int) -> Iterator[tuple[str, list[Utterance]]]:
    """The worst utterances: those that lost against the first file, then the others, each with what they are."""
    worst = found.worst(most)
    if lost := [u for u in worst if u.lost > 0]:
        yield "worst against the first file", lost
    if others := [u for u in worst if u.lost <= 0]:
        why = " of the others" if lost else ", none more than the first file" if len(found.results) > 1 else ""
        yield f"most word errors{why}", others


def _tables(found: Evaluation) -> Iterator[Table]:
    sure = f"{100 * found.level:g} % interval"
    table = Table("file", "WER", sure, "sub", "del", "ins", "CER", sure, box=None, pad_edge=False)
    for r in found.results:
        w = r.words
        counts = (str(n) for n in (w.substitutions, w.deletions, w.insertions))
        table.add_row(
            escape(r.name), rate(w), _span(r.words_interval), *counts, rate(r.characters), _span(r.characters_interval)
        )
    yield table
    if len(found.results) > 1:
        heads = ("against the first file", "WER points", sure, "better", "worse", "p", "not worse")
        table = Table(*heads, box=None, pad_edge=False)
        for r in found.results[1:]:
            test = r.against_first
            facts = ("-",) * 5
            if test is not None:
                better, worse = (f"{100 * share:.0f} %" for share in (test.better, test.worse))
                facts = (f"{100 * test.difference:+.2f}", _span(test.interval, "+"), better, worse, f"{test.p:.3f}")
            table.add_row(escape(r.name), *facts, f"{100 * r.not_worse:.1f} % of recordings")
        yield table


def _side_by_side(found: Evaluation, utterance: Utterance) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_row(escape(utterance.name), "", escape(utterance.text))
    for r, heard, counts in zip(found.results, utterance.heard, utterance.words):
        table.add_row(f"  {escape(r.name)}", str(counts.errors), escape(marked(utterance.text, heard)))
    return table


def rate(counts: Counts) -> str:
    """A rate in percent."""
    return f"{100 * counts.rate:.2f} %"


def _span(interval: tuple[float, float] | None, sign: str = "") -> str:
    if interval is None:
        return "-"
    low, high = (format(100 * x, f"{sign}.2f") for x in interval)
    return f"{low} to {high}"

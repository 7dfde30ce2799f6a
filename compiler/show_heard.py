"""What `speechc run` prints: texts, detections and shapes on standard output; progress and notes on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .decode.result import Alternative
from .listen.listener import Heard, Segment
from .recordings import WARNINGS, LeftOut, Note, Summary
from .run_file import line_of

SHOWN = 20  # recordings that are named in a table


def console(stream: TextIO | None = None) -> Console:
    """A console on a stream (standard error); where that is no terminal, wide enough for tables."""
    stream = stream or sys.stderr
    return Console(file=stream, highlight=False, width=None if stream.isatty() else 200)


@contextmanager
def progress(title: str, quiet: bool) -> Iterator[Callable[[float, float], None]]:
    """A bar on standard error, where that is a terminal; told what is done and what there is."""
    err = console()
    if quiet or not err.is_terminal:
        yield lambda done, of: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, of: bar.update(task, completed=round(done), total=round(of))


class Printer:
    """Prints results as they come; of detections those that are new or have changed, at the end what else was found."""

    def __init__(self):
        self.name, self.told = None, set()

    def show(self, name: str | None, heard: Heard) -> None:
        """Print a result of a recording (None: the only one)."""
        if name != self.name:
            self.name, self.told = name, set()
        before = "" if name is None else f"{name}: "
        if heard.segments is None:
            print(f"{before}{line_of(heard)}", flush=True)
            if heard.final and len(heard.alternatives or ()) > 1:
                print("\n".join(ranked(heard.alternatives)), flush=True)
            return
        for segment in heard.segments:
            if (key := (segment.label, segment.start, segment.going)) not in self.told:
                self.told.add(key)
                print(before + spoken(segment), flush=True)
        if heard.final and not heard.segments and heard.text is None:
            print(f"{before}nothing detected", flush=True)


def ranked(alternatives: Iterable[Alternative]) -> Iterator[str]:
    """What a search found, a line each: rank, score (a natural logarithm) and text."""
    for rank, found in enumerate(alternatives, 1):
        yield f"{rank:6d}  {found.score:9.3f}  {found.text}"


def spoken(segment: Segment) -> str:
    """A detection as a line."""
    if segment.going:
        return f"{segment.start:8.2f} s to      ...    {segment.label}"
    score = "" if segment.score is None else f"  {segment.score:.3f}"
    return f"{segment.start:8.2f} s to {segment.end:8.2f} s  {segment.label}{score}"


def usage(found: Mapping[str, Any]) -> None:
    """What the stages of a cascade took, on standard error: how long each was awake, and what that saved."""
    table = Table("stage", "woken", "heard, s", "of the audio", "calls", "MACs", "if always awake", "seconds", box=None)
    count = lambda n: "not known" if n is None else f"{n:,}"
    for s in found["stages"]:
        table.add_row(
            s["stage"],
            str(s["wakes"]),
            f"{s['heard_s']:.2f}",
            f"{s['duty']:.1%}",
            f"{s['calls']:,}",
            count(s["macs"]),
            count(s["macs_always"]),
            f"{s['seconds']:.3f}",
        )
    table.add_row(
        "all", "", f"of {found['audio_s']:.2f}", "", "", count(found["macs"]), count(found["macs_always"]),
        f"{found['seconds']:.3f}",
    )  # fmt: skip
    err = console()
    err.print(table)
    if found["saved"] is not None:
        err.print(f"{found['saved']:.1%} of the multiply-accumulates saved")


def summary(found: Summary) -> None:
    """The notes and, of a folder, what was left out and why, on standard error."""
    err = console()
    if found.recordings > 1 or found.left_out:
        err.print(f"{found.recordings - len(found.left_out)} of {found.recordings} recordings")
    for table in tables(found.left_out, found.notes):
        err.print(table)


def tables(left_out: Iterable[LeftOut], notes: Iterable[tuple[str, Note]]) -> Iterator[Table]:
    """What was left out and why, then warnings, each by kind and then by recording (the first of many)."""
    left = [(e.kind, e.name, f"{e.why.removeprefix(e.name).strip()} [{e.code}]") for e in left_out]
    warned = [(n.kind, name, n.text) for name, n in notes if n.kind in WARNINGS]
    for heading, rows in (("left out", left), ("warning", warned)):
        if rows:
            yield _table(heading, sorted(rows))


def _table(heading: str, rows: list[tuple[str, str, str]]) -> Table:
    table = Table(heading, "recordings", "recording", "why", box=None, pad_edge=False)
    counts: dict[str, int] = {}
    for kind, *_ in rows:
        counts[kind] = counts.get(kind, 0) + 1
    told: dict[str, int] = {}
    for kind, name, why in rows:
        told[kind] = told.get(kind, 0) + 1
        if told[kind] <= SHOWN:
            first = told[kind] == 1
            table.add_row(kind if first else "", str(counts[kind]) if first else "", _plain(name), _plain(why))
        elif told[kind] == SHOWN + 1:
            table.add_row("", "", f"and {counts[kind] - SHOWN} more", "")
    return table


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)

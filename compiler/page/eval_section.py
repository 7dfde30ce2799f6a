"""Error rates on the page: words and characters by file, with intervals, the worst utterances side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .plots import intervals
from .view import Cell, Plot, Section, Table, number, percent, text


def eval_sections(data: Mapping[str, Any]) -> Iterator[Section]:
    """One section."""
    gates = data.get("gates") or []
    good = all(g["passed"] for g in gates) if gates else None
    made = Section("errors", "Error rates", "" if good is None else "gates passed" if good else "a gate failed", good)
    made.facts = [("data", data["data"]), ("texts compared", data["normalise_text"]),
                  ("recordings", f"{data['counted']} of {data['recordings']} counted"),
                  ("audio", f"{data['seconds']:.0f} s")]  # fmt: skip
    files = data["files"]
    for key, label, of in (("wer", "Word error rate", "words"), ("cer", "Character error rate", "characters")):
        rows = [[text(f["file"]), percent(f[key]["rate"], 2), _interval(f[key].get("interval")),
                 number(f[key]["substitutions"]), number(f[key]["deletions"]), number(f[key]["insertions"]),
                 number(f[key]["length"])] for f in files]  # fmt: skip
        level = data.get("confidence", {}).get("level")
        within = f"{100 * level:g} % interval" if level else "interval"
        headings = ["file", "rate", within, "substitutions", "deletions", "insertions", of]
        made.tables.append(Table(label, headings, rows))
        bounded = [(f["file"], f[key]["rate"], f[key]["interval"]) for f in files if f[key].get("interval")]
        if bounded and all(rate is not None for _, rate, _ in bounded) and any(max(b) for _, _, b in bounded):
            made.plots.append(Plot(f"{label} with its interval, in percent", intervals(bounded)))
    paired = [f for f in files if f.get("against_first")]
    if paired:
        rows = [[text(f["file"]), percent(f["against_first"]["difference"], 2),
                 _interval(f["against_first"]["interval"]), number(f["against_first"]["p"], "{:.3f}"),
                 percent(f.get("not_worse"))] for f in paired]  # fmt: skip
        headings = ["file", "difference in words", "interval", "p", "utterances not worse"]
        made.tables.append(Table(f"Against {files[0]['file']}", headings, rows))
    for heading, worst in _worst(data):
        rows = []
        for u in worst:
            said = [Cell(f"{h}  ({n} wrong)") for h, n in zip(u["heard"], u["word_errors"])]
            rows.append([text(u["audio"]), text(u["text"]), *said])
        made.tables.append(Table(heading, ["recording", "text", *(f["file"] for f in files)], rows))
    if gates:
        rows = [[text(g["gate"]), text(g["file"]), number(g["value"], "{:.4g}"), number(g["limit"], "{:.4g}"),
                 Cell("passed" if g["passed"] else "failed", state="good" if g["passed"] else "bad")]
                for g in gates]  # fmt: skip
        made.tables.append(Table("Gates", ["gate", "file", "value", "limit", "verdict"], rows))
    made.notes = [f"{note}: {n}" for note, n in _pairs(data.get("notes"))]
    if data.get("left_out"):
        made.notes.append(f"{len(data['left_out'])} recordings left out")
    yield made


def _worst(data: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The worst utterances under what they are: those that lost against the first file, and the others."""
    lost, others = [], []
    for u in data.get("worst") or []:
        first, *later = u["word_errors"]
        (lost if any(n > first for n in later) else others).append(u)
    if lost:
        yield "Worst against the first file", lost
    if others:
        why = " of the others" if lost else ", none more than the first file" if len(data["files"]) > 1 else ""
        yield f"Most word errors{why}", others


def _pairs(notes: Any) -> list[tuple[str, Any]]:
    if isinstance(notes, Mapping):
        return list(notes.items())
    return [(str(n), 1) for n in notes or []]


def _interval(bounds: Any) -> Cell:
    return Cell("–" if not bounds else f"{100 * bounds[0]:.2f} to {100 * bounds[1]:.2f} %", True)

"""A verification on the page: outputs trial by trial, where file and model part, and SNR along the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .plots import profile
from .view import Cell, Plot, Section, Table, decibels, number, percent, text


def verify_sections(data: Mapping[str, Any]) -> Iterator[Section]:
    """Two sections: outputs, and the graph."""
    made = Section("verify", "File and model, compared", "agrees" if data["good"] else "does not agree", data["good"])
    made.facts = [("model", data["model"]), ("file", data["file"]), ("by", data["checked_by"]),
                  ("compared on", data["audio"]), ("against", data["against"]), ("held to", data["limit"])]  # fmt: skip
    rows = []
    for t in data["trials"]:
        lengths = ", ".join(f"{n}={k}" for n, k in t["lengths"].items())
        for o in t["outputs"]:
            rows.append([text(t["name"]), text(lengths), text(o["output"]), number(o["absolute"], "{:.2e}"),
                         number(o["error"], "{:.1e}", state="" if t["good"] else "bad"), decibels(o["snr"]),
                         percent(o.get("same_argmax"), 2)])  # fmt: skip
    headings = ["input", "lengths", "output", "largest difference", "relative", "SNR", "same class"]
    made.tables.append(Table("Outputs of the file and of the model", headings, rows))
    if data.get("rewrite"):
        made.notes.append(f"the rewrite, against the model as it was: {decibels(data['rewrite']['snr']).text}")
    made.notes += data.get("notes", [])
    heard = data.get("recordings") or {"left_out": [], "notes": {}}
    made.notes += [f"{e['audio']} left out: {e['reason']}" for e in heard["left_out"]]
    made.notes += [f"{n} recordings are {kind}" for kind, n in heard["notes"].items() if kind in ("silent", "clipped")]
    if error := data.get("error"):
        made.bad = [f"{error['code']}: {error['message']}", *error["where"]]
    if data.get("stored"):
        stored = [[text(c["module"]), text(c["name"]), number(c["values"]), number(c["of"]),
                   number(c["largest_error"], "{:.1e}")] for c in data["stored"]]  # fmt: skip
        headings = ["module", "array", "values that differ", "of", "largest error"]
        made.tables.append(Table("Stored arrays that differ from what the model compiles to", headings, stored))
    yield made
    if data.get("along"):
        yield _along(data["along"])


def _along(rows: list[Mapping[str, Any]]) -> Section:
    made = Section("along", "Along the graph", intro="SNR of each module's last value against the float32 graph: what "
                   "all steps so far have lost. The own error is what the ops of the module add on the file's own "
                   "inputs to them.")  # fmt: skip
    cells = []
    for r in rows:
        parts = Cell(f"here: {r['parts']}", state="bad") if r["parts"] else Cell("")
        total = Cell("–", True) if r["total"] is None else decibels(r["total"]["snr"])
        cells.append([text(r["module"] or "(model)"), text(r["class"]), text(r["source"]), number(r["ops"]), total,
                      number(r["own"]["error"], "{:.1e}"), parts])  # fmt: skip
    headings = ["module", "class", "source", "ops", "SNR", "own error", "parts"]
    measured = [r for r in rows if r["total"] and r["total"]["snr"] is not None]
    known = [(r["module"] or "(model)", r["total"]["snr"]) for r in measured]
    if len(known) > 1:
        wrong = [i for i, r in enumerate(measured) if r["parts"]]
        made.plots.append(Plot("SNR behind each module in order, in dB", profile(known, "dB", wrong)))
    made.tables.append(Table("Modules in order", headings, cells))
    return made

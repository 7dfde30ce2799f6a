"""Devices on the page: what a file needs, and what of that each device has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..show_stream import size_text
from .view import Cell, Section, Table, number, text

# What a file needs: the key, what it is called, and how it is written (None: as a size).
NEEDS = (("parameters", "parameters", "{:,}"), ("file_bytes", "file", None), ("weight_bytes", "weights", None),
         ("activation_bytes", "activations at most", None), ("state_bytes", "state", None),
         ("macs", "multiply-accumulates a second of audio", "{:,.0f}"))  # fmt: skip


def fit_sections(data: Mapping[str, Any]) -> Iterator[Section]:
    """One section."""
    devices = data.get("devices", [])
    fits = sum(bool(d["fits"]) for d in devices)
    made = Section("fit", "Devices", f"fits {fits} of {len(devices)}" if devices else "")
    need = data.get("need", {})
    for key, called, form in NEEDS:
        if need.get(key) is not None:
            made.facts.append((called, size_text(need[key]) if form is None else form.format(need[key])))
    rows = []
    for d in devices:
        lacks = ", ".join(r["name"] for r in d.get("resources", []) if r["fits"] is False)
        verdict = Cell(
            "fits" if d["fits"] else f"lacks {lacks or 'what is known'}", state="good" if d["fits"] else "bad"
        )
        margin = d.get("margin")
        rows.append([text(d["name"]), text(d["kind"]), verdict, number(margin, "{:.3g}×"),
                     text("; ".join(d.get("remedies", [])))])  # fmt: skip
    if rows:
        headings = ["device", "kind", "verdict", "faster than real time", "what would help"]
        made.tables.append(Table("Devices", headings, rows, shown=40))
    stores = data.get("stores") or []
    if stores:
        cells = [[text(s["name"]), text(size_text(s["limit"])),
                  Cell("under" if s["under"] else "over", state="good" if s["under"] else "bad")]
                 for s in stores]  # fmt: skip
        made.tables.append(Table("Stores", ["store", "limit of a download", "verdict"], cells))
    made.notes = [str(n) for n in need.get("notes", [])]
    yield made

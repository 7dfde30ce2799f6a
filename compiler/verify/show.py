"""What `speechc verify` prints: outputs trial by trial, what was noticed, and the table along the graph."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from ..numerics import Difference
from ..show import err, out
from ..show_heard import tables
from .along import Row
from .verdict import Verdict


def show_verdict(v: Verdict, along: bool) -> None:
    """The verdict for a person; the table along the graph goes to standard output."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("file", f"{v.file} ({v.target}, {v.precision}), by {v.runner}")
    table.add_row("compared on", v.heard)
    table.add_row(f"against {v.against}", f"{v.worst} ({v.limit})")
    if v.rewrite is not None:
        table.add_row("the rewrite", f"{v.rewrite} against the model as it was")
    if v.walk is not None:
        table.add_row("inside", _inside(v))
    if v.changed is not None:
        table.add_row("stored", _differ(len(v.changed)))
    for note in v.notes:
        table.add_row("note", note)
    err.print(table)
    if v.recordings is not None:
        for told in tables(v.recordings.left_out, v.recordings.notes):
            err.print(told)
    outputs = Table("input", "lengths", "output", "largest difference", "relative", "SNR", "same class", box=None,
                    pad_edge=False)  # fmt: skip
    for t in v.trials:
        lengths = ", ".join(f"{n}={k}" for n, k in t.lengths.items())
        for o in t.outputs:
            same = "" if o.argmax is None else f"{100 * o.argmax:.4g} %"
            outputs.add_row(t.name, lengths, o.name, f"{o.absolute:.2e}", f"{o.found.error:.1e}", _db(o.found), same)
    err.print(outputs)
    if along:
        out.print(along_table(v.rows))


def along_table(rows: list[Row]) -> Table:
    """A line for each module, in order."""
    table = Table("module", "class", "source", "ops", "SNR", "own error", "", box=None, pad_edge=False)
    for r in rows:
        total = "" if r.total is None else _db(r.total)
        parts = "" if r.parts is None else f"parts here: {r.parts}"
        table.add_row(r.module or "(model)", r.cls, r.source, str(r.ops), total, f"{r.own.error:.1e}", parts)
    return table


def _differ(count: int) -> str:
    if not count:
        return "as the model compiles to"
    return "1 array differs" if count == 1 else f"{count} arrays differ"


def _inside(v: Verdict) -> str:
    count = len(v.walk.seen)
    if v.first is None:
        return f"{count} ops do what the graph says"
    right = sum(not s.parts for s in v.walk.seen)
    return f"{right} of {count} ops do what the graph says; first {v.first.loc} does not"


def _db(d: Difference) -> str:
    return f"{d.snr:.1f} dB" if np.isfinite(d.snr) else ("exact" if d.snr > 0 else "none")

"""What is printed of targets: the table of all that there are, and of one compilation for several."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from ..ir.errors import SpeechcError
from ..lowering.target import available, target
from .report import Report
from .settings import Settings


def targets() -> Table:
    """The table of `speechc targets`: files, precisions (the default first) and the options of each, as flags."""
    table = Table("target", "file", "precisions", "option", "default", "what it does", box=None, pad_edge=False)
    for name in available():
        t = target(name)
        precisions = ", ".join(sorted(t.precisions, key=lambda p: p != t.default))
        first = (name, t.suffix, precisions)
        rows = [
            ("--" + o.name.replace("_", "-"), "" if o.default is None else str(o.default), o.help) for o in t.options
        ]
        for i, row in enumerate(rows or [("", "", "")]):
            table.add_row(*(first if i == 0 else ("", "", "")), *map(escape, row))
    return table


def together(settings: Sequence[Settings], made: Sequence[Report | SpeechcError]) -> Table:
    """One row a target: file, size, precision, state, differences, and what ran the file.

    The difference is that from the model, what a rewrite loses included; of a step file also that from the whole.
    """
    steps = any(isinstance(found, Report) and found.streamed is not None for found in made)
    streamed = ("state", "streamed = whole") if steps else ()
    table = Table("file", "size", "precision", "largest difference", "SNR, dB", *streamed, "checked by", "seconds",
                  box=None, pad_edge=False)  # fmt: skip
    for asked, found in zip(settings, made):
        if isinstance(found, SpeechcError):
            table.add_row(f"({asked.target})", "-", "-", "-", "-", *("-" for _ in streamed), f"error[{found.code}]", "")
            continue
        file = found.proof.file
        step = found.streamed
        state = () if step is None else (f"{step.state_bytes:,} B", f"{step.proof.file.error:.1e}")
        snr = "exact" if file.error == 0 else f"{file.snr:.1f}"
        table.add_row(
            found.artefact.name, found.size_text, found.precision, f"{file.error:.1e}", snr, *state,
            found.checked_by, f"{found.seconds:.1f}",
        )  # fmt: skip
    return table

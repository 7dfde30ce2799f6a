"""The walk along a graph as a table of modules: how much of the signal is left behind each, in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..numerics import Difference
from .walk import Seen, Walk


@dataclass
class Row:
    """One module: the SNR of its last value against the float32 graph, in dB, and the worst own error of its ops.

    `parts` names the first of its ops that computes something else than it means.
    """

    module: str
    cls: str
    source: str
    ops: int
    total: Difference | None
    own: Difference
    parts: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "module": self.module,
            "class": self.cls,
            "source": self.source,
            "ops": self.ops,
            "total": None if self.total is None else self.total.as_dict(),
            "own": self.own.as_dict(),
            "parts": self.parts,
        }


def along(found: Walk) -> list[Row]:
    """A row for each module path, in the order in which their last ops come."""
    groups: dict[str, list[Seen]] = {}
    for seen in found.seen:
        groups.setdefault(seen.loc.path, []).append(seen)
    place = {id(s): i for i, s in enumerate(found.seen)}
    return [_row(g) for g in sorted(groups.values(), key=lambda g: place[id(g[-1])])]


def _row(group: list[Seen]) -> Row:
    last = next((s.total for s in reversed(group) if s.total is not None), None)
    wrong = next((s for s in group if s.parts), None)
    told = wrong or group[-1]
    own = Difference(max(s.own.error for s in group), min(s.own.snr for s in group))
    return Row(told.loc.path, told.loc.cls, told.loc.source, len(group), last, own, wrong and wrong.op)


def below(rows: Iterable[Row], least: float) -> Row | None:
    """The first row from which on the SNR stays below `least` dB; None where the last one is not below it."""
    found = None
    for row in rows:
        if row.total is None or not np.isfinite(row.total.snr):
            continue
        if row.total.snr >= least:
            found = None
        elif found is None:
            found = row
    return found

"""What a file stores beside what its model compiles to: every weight, constant and scale, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.graph import Graph, Loc
from ...lowering.inside import Inside

# The same numbers, computed on another machine: what the order of sums does to a weight that passes folded (by the
# bytes of a float, of the largest value), and a number beside a tie between two codes of 8 bits.
FOLDED = {2: 2e-3, 4: 1e-5, 8: 1e-5}
CODES = 1


@dataclass(frozen=True)
class Changed:
    """A stored array that differs: where in the file, which module reads it, how many values and by how much.

    `largest` is relative to the array's largest value; None where the array is missing or has another shape or type.
    """

    name: str
    loc: Loc
    count: int
    size: int
    largest: float | None

    def __str__(self) -> str:
        what = "not there, or of another shape or type" if self.largest is None else (
            f"{self.count} of {self.size} values, largest error {self.largest:.1e}")  # fmt: skip
        return f"{self.loc}: {self.name}: {what}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        where = {"module": self.loc.path, "class": self.loc.cls, "source": self.loc.source}
        return {"name": self.name, **where, "values": self.count, "of": self.size, "largest_error": self.largest}


def changed(file: Inside, again: Inside, graph: Graph) -> list[Changed]:
    """Arrays of `again`, what `graph` compiles to, that `file` holds with other values, or not at all; in order."""
    readers = _readers(graph)
    mine = dict(file.stored())
    found = []
    for name, wanted in again.stored():
        given = mine.get(name)
        if given is None or given.shape != wanted.shape or given.dtype != wanted.dtype:
            found.append(Changed(name, _reader(name, readers), wanted.size, wanted.size, None))
        elif given.tobytes() != wanted.tobytes() and (one := _differ(name, given, wanted, readers)) is not None:
            found.append(one)
    order = {id(loc): i for i, loc in enumerate(readers.values())}
    return sorted(found, key=lambda c: order.get(id(c.loc), len(order)))


def _differ(name: str, given: np.ndarray, wanted: np.ndarray, readers: dict[str, Loc]) -> Changed | None:
    with np.errstate(all="ignore"):
        far = np.abs(given.astype(np.float64) - wanted.astype(np.float64))
    far = np.where(np.isnan(far), np.inf, far)
    largest = float(np.abs(wanted[np.isfinite(wanted)].astype(np.float64)).max(initial=0)) or 1.0
    kind, width = wanted.dtype.kind, wanted.dtype.itemsize
    allowed = FOLDED[width] * largest if kind == "f" else CODES if kind in "iu" and width == 1 else 0
    count = int((far > allowed).sum())
    if not count:
        return None
    return Changed(name, _reader(name, readers), count, wanted.size, min(float(far.max()) / largest, 1e30))


def _readers(graph: Graph) -> dict[str, Loc]:
    """Where each weight is first read, by its name, in order."""
    found: dict[str, Loc] = {}
    for op in graph.ops:
        for v in op.operands:
            if v is not None and v.kind == "weight":
                found.setdefault(v.name, op.loc)
    return found


def _reader(name: str, readers: dict[str, Loc]) -> Loc:
    """The place that reads a stored array: its name is that of a weight, often with how it was rearranged behind."""
    plain = lambda text: re.sub(r"[^A-Za-z0-9]", "_", text)
    fits = [n for n in readers if plain(name).startswith(plain(n))]
    return readers[max(fits, key=len)] if fits else Loc(name)

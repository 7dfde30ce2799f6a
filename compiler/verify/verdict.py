"""What verifying a file found, as plain data and as an error where the file is not its model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...ir.errors import NumericalError
from ..numerics import Difference
from ..recordings import Summary
from .along import Row, below
from .outputs import Compared
from .stored import Changed
from .walk import Seen, Walk

SHOWN = 5  # places that an error names


@dataclass
class Trial:
    """One input, the lengths it has, and every output beside that of the model."""

    name: str
    lengths: dict[str, int]
    outputs: list[Compared]
    good: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"name": self.name, "lengths": self.lengths, "good": self.good,
                "outputs": [o.as_dict() for o in self.outputs]}  # fmt: skip


@dataclass
class Verdict:
    """A file beside its model: `against` says what outputs are compared with, `limit` what they are held to."""

    model: str
    file: str
    target: str
    precision: str
    runner: str
    against: str
    limit: str
    least: float | None
    heard: str
    trials: list[Trial]
    rewrite: Difference | None = None
    changed: list[Changed] | None = None  # None: not compared
    missing: int = 0  # values of the graph that the file has no tensor for
    values: int = 0
    walk: Walk | None = None
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    recordings: Summary | None = None  # what became of those that were given
    seconds: float = 0.0

    @property
    def worst(self) -> Difference:
        """The largest error and the least SNR of all outputs and trials."""
        found = [o.found for t in self.trials for o in t.outputs]
        return Difference(max(d.error for d in found), min(d.snr for d in found))

    @property
    def first(self) -> Seen | None:
        """The first op at which the file computes something else than its graph says."""
        return self.walk.first if self.walk else None

    @property
    def good(self) -> bool:
        """Whether every output is near enough, and the file stores what its model compiles to."""
        return all(t.good for t in self.trials) and not self.changed

    def error(self) -> NumericalError | None:
        """Why the file is not its model; None where it is."""
        if self.good:
            return None
        if self.changed and all(t.good for t in self.trials):
            more = len(self.changed) - SHOWN
            return NumericalError(
                "SC541",
                f"{self.file} holds other values than {self.model} compiles to, though its outputs are near enough: "
                f"{len(self.changed)} stored array{'s differ' if len(self.changed) > 1 else ' differs'}",
                [*map(str, self.changed[:SHOWN]), *([f"and {more} more"] if more > 0 else [])],
                ["the file was changed, or comes from another state of the model: compile it again"],
            )
        bad = next(t for t in self.trials if not t.good)
        return NumericalError(
            "SC540",
            f"{self.file} is not {self.against}: {self.worst} ({self.limit}), first on {_trial(bad)}",
            self.places(),
            ["--along shows how much is left behind every module", "--min-snr DB accepts less"],
        )

    def places(self) -> list[str]:
        """Where the file and its model part, most telling first."""
        found = []
        if self.first is not None:
            found.append(f"{self.first.loc}: they part here first: {self.first.op}, on the file's own inputs to it: "
                         f"{self.first.own}")  # fmt: skip
        found += [f"{c} (stored)" for c in (self.changed or [])[:SHOWN]]
        if self.missing:
            found.append(f"{self.missing} of the {self.values} values that the model compiles to are not in the file")
        if not found and self.rows:
            row = below(self.rows, self.least) if self.least is not None else None
            if row is not None:
                found.append(f"{row.module or '(model)'} ({row.cls}, {row.source}): below {self.least:g} dB from here "
                             "on; no op is wrong by itself, the loss adds up")  # fmt: skip
            elif self.walk is not None:
                found.append("(model): every op of the file does what the graph says: what parts them was lost before "
                             "the file was written, or at another length")  # fmt: skip
        return found

    def as_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        why = self.error()
        return {
            "model": self.model,
            "file": self.file,
            "target": self.target,
            "precision": self.precision,
            "checked_by": self.runner,
            "against": self.against,
            "limit": self.limit,
            "audio": self.heard,
            "good": self.good,
            **self.worst_dict(),
            "trials": [t.as_dict() for t in self.trials],
            "rewrite": None if self.rewrite is None else self.rewrite.as_dict(),
            "stored": None if self.changed is None else [c.as_dict() for c in self.changed],
            "missing_values": self.missing,
            "first": None if self.first is None else self.first.as_dict(),
            "along": [r.as_dict() for r in self.rows],
            "notes": self.notes,
            "recordings": None if self.recordings is None else self.recordings.as_dict(),
            "error": None if why is None else {"code": why.code, "message": why.message, "where": why.where},
            "seconds": round(self.seconds, 3),
        }

    def worst_dict(self) -> dict[str, Any]:
        """The worst of all outputs, as a compilation reports it."""
        worst = self.worst.as_dict()
        return {"largest_error": worst["error"], "snr": worst["snr"]}


def _trial(t: Trial) -> str:
    return f"{t.name} ({', '.join(f'{n}={k}' for n, k in t.lengths.items())})" if t.lengths else t.name

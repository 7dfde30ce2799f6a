"""What a compilation is calibrated with: recordings or arrays of a folder, or arrays given in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..ir.errors import UsageError
from .audio import read_samples
from .front_end import hearing
from .in_turn import in_turn, pieces
from .recordings import Summary
from .samples import Feeds, as_feeds, check_limits, filled
from .settings import Settings
from .subject import Subject, limits


def calibration_feeds(subject: Subject, settings: Settings, found: Summary | None = None) -> list[Feeds]:
    """The calibration samples as feeds; a graph with states hears them in turn (`Turns`).

    A recording longer than its input is cut into pieces. `found` is told what became of the samples of a folder.

    Raises `UsageError`: as `read_samples`, SC057 for a folder in which everything is silent, SC035 for an empty list,
    SC110 to SC112 for arrays given in Python that do not fit the model.
    """
    given = settings.calibration
    if given is None:
        return []
    graph, features = next(iter(subject.module.graphs.values())), hearing(subject.module)

    def take(name: str, sample: Any) -> list[Feeds]:
        calls = [as_feeds(graph, filled(graph, piece)) for piece in pieces(graph, features(sample))]
        check_limits(graph, calls[0], limits(subject.module), name)
        return calls

    if not isinstance(given, (str, Path)):
        calls = [take(f"calibration sample {number}", sample) for number, sample in enumerate(given, 1)]
        if not calls:
            raise UsageError("SC035", "no calibration samples were given")
        return in_turn(graph, calls)
    found = Summary() if found is None else found
    rate = settings.sample_rate or subject.module.meta.get("sample_rate")
    calls = list(read_samples(Path(given), rate, take, found))
    if len({name for name, note in found.notes if note.kind == "silent"}) == found.used:
        raise UsageError(
            "SC057",
            f"nothing to calibrate with: all {found.used} recordings that can be read in {given} are silent",
            hints=["recordings of what the model will hear"],
        )
    return in_turn(graph, calls)

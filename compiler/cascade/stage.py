"""One stage of a cascade: which file, from when before its trigger it hears, and how long it stays awake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ...ir.errors import UsageError

PRE_ROLL, HANG_OVER = 500.0, 1000.0  # ms


@dataclass
class Stage:
    """A file of a cascade; the first one is always awake.

    It wakes when the stage before it finds something, and hears from `pre_roll_ms` before that on (never what it has
    heard already). It sleeps once the stage `until` (by default the one before it) has found nothing for
    `hang_over_ms`, or after `longest_ms` (None: as long as its file takes). `options` are those of its listener.
    """

    name: str
    file: str | Path
    pre_roll_ms: float = PRE_ROLL
    hang_over_ms: float = HANG_OVER
    longest_ms: float | None = None
    until: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def malformed(what: str) -> UsageError:
    """The error of a cascade that cannot be."""
    return UsageError("SC095", f"the cascade {what}")


def stages_of(about: Mapping[str, Any], folder: Path) -> list[Stage]:
    """The stages that a `cascade.json` lists, their files relative to its folder. Raises `UsageError` SC095."""
    listed = about.get("stages")
    if not isinstance(listed, list) or not all(isinstance(s, dict) for s in listed):
        raise malformed('has no list "stages"')
    known = {f.name for f in fields(Stage)}
    made = []
    for number, entry in enumerate(listed):
        if "file" not in entry:
            raise malformed(f"does not say the file of stage {number}")
        if unknown := sorted(set(entry) - known):
            raise malformed(f"says {', '.join(unknown)} of stage {number}; a stage has {', '.join(sorted(known))}")
        made.append(Stage(**{"name": Path(entry["file"]).stem} | entry | {"file": folder / entry["file"]}))
    return made


def check(stages: Sequence[Stage]) -> None:
    """Raise `UsageError` SC095 where stages do not fit together."""
    names = [s.name for s in stages]
    if len(stages) < 2:
        raise malformed(f"has {len(stages)} stages; it wants two or more")
    if len(set(names)) < len(names):
        raise malformed(f"has two stages of one name: {', '.join(names)}")
    for number, s in enumerate(stages):
        if s.until is not None and s.until not in names[:number]:
            raise malformed(f"keeps {s.name} awake until {s.until}, which is no stage before it")
        for name in ("pre_roll_ms", "hang_over_ms", "longest_ms"):
            value = getattr(s, name)
            if not (value is None and name == "longest_ms") and not (isinstance(value, (int, float)) and value >= 0):
                raise malformed(f"has {name} = {value!r} for {s.name}: milliseconds, 0 or more")
        if not isinstance(s.options, dict):
            raise malformed(f"has options of {s.name} that are no object")

"""The options of a Core ML compilation, checked: oldest system, lengths, how states are held, texts about the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...ir.errors import UsageError

# Systems by the iOS release whose operators they have; Core ML writes iOS names only, and newer systems run older ones.
RELEASES = {
    **{f"iOS{n}": n for n in (15, 16, 17, 18)},
    **{f"macOS{n}": ios for n, ios in ((12, 15), (13, 16), (14, 17), (15, 18))},
    **{f"watchOS{n}": ios for n, ios in ((8, 15), (9, 16), (10, 17), (11, 18))},
    **{f"tvOS{n}": n for n in (15, 16, 17, 18)},
}
HALF_PORTS = 16  # the first release with float16 inputs and outputs
STATES = 18  # the first release that holds states itself
USUAL = 17  # what a package asks for where nothing needs more


@dataclass(frozen=True)
class Choices:
    """What the user chose; None leaves it to the graph. `lengths` are values of the graph's one free size."""

    release: int | None = None
    lengths: tuple[int, ...] = ()
    native: bool = True
    author: str | None = None
    license: str | None = None
    description: str | None = None


def chosen(options: Mapping[str, object]) -> Choices:
    """The choices that `options` make. Raises `UsageError` SC068 for a bad value."""
    texts = {n: None if options.get(n) is None else str(options[n]) for n in ("author", "license", "description")}
    return Choices(
        _release(options.get("minimum_deployment")), _lengths(options.get("lengths")), _native(options), **texts
    )


def _release(value: object) -> int | None:
    if value is None:
        return None
    found = {name.lower(): ios for name, ios in RELEASES.items()}.get(str(value).lower())
    if found is None:
        names = ", ".join(RELEASES)
        raise UsageError("SC068", f"minimum_deployment {value}: Core ML has no such release", hints=[f"one of {names}"])
    return found


def _lengths(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
    try:
        numbers = sorted({int(str(p)) for p in parts})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise UsageError("SC068", f"lengths {value}: wants whole numbers, as 100,200,400")
    return tuple(numbers)


def _native(options: Mapping[str, object]) -> bool:
    value = options.get("state", "native")
    if value not in ("native", "explicit"):
        raise UsageError("SC068", f"state {value}: native or explicit")
    return value == "native"

"""Optimisation profiles: the least, usual and largest shape of every input whose sizes vary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...ir.errors import UsageError
from ...ir.expr import Size, evaluate, symbols
from ...ir.graph import Graph
from ..streaming import solve

Range = tuple[int, int, int]  # least, usual, largest
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
BATCH: Range = (1, 1, 8)
FRAMES, SAMPLES = 160, 16000  # usual lengths where no sample says more: of features, of bare audio
LONGER = 16  # the largest length, in usual ones, where neither the model nor the user sets one


@dataclass(frozen=True)
class Varying:
    """A symbol of the input shapes: a size that shows it, whether that counts time, and whether of bare audio."""

    size: Size
    timed: bool
    bare: bool


def varying(graph: Graph) -> dict[str, Varying]:
    """The symbols of the input shapes; a dimension of time shows its symbol best."""
    found: dict[str, Varying] = {}
    for v in graph.inputs:
        for d in v.type.shape:
            for name in sorted(symbols(d.size)):
                if name not in found or (d.time is not None and not found[name].timed):
                    bare = d.time is not None and v.type.rank <= 2 and v.type.is_float
                    found[name] = Varying(d.size, d.time is not None, bare)
    return found


def ranges(
    graph: Graph,
    limits: Mapping[str, list[int | None]],
    usual: Mapping[str, int],
    profile: object = None,
    batch_profile: object = None,
) -> dict[str, Range]:
    """The range of every symbol: as asked, else around the usual size within the limits of the model.

    `profile` counts frames (samples) of the input along time, `batch_profile` rows: three numbers each. Raises
    `UsageError` SC017 for what is no such range, lies outside the limits, or is asked of a graph without such sizes.
    """
    found = varying(graph)
    for option, given, timed in (("profile", profile, True), ("batch_profile", batch_profile, False)):
        if given is not None and not any(v.timed == timed for v in found.values()):
            what = "length" if timed else "batch"
            raise UsageError("SC017", f"{option}: no {what} of graph {graph.name} varies", hints=["leave it out"])
    out = {}
    for name, v in found.items():
        least, most = limits.get(name, [1, None])
        given, option = (profile, "profile") if v.timed else (batch_profile, "batch_profile")
        if given is not None:
            out[name] = _asked(option, three(option, given), v.size, name, least or 1, most)
        else:
            out[name] = _usual(v, least or 1, most, usual.get(name))
    return out


def three(option: str, given: object) -> Range:
    """`"100,400,1600"`, `[100, 400, 1600]` or one number, as a range. Raises `UsageError` SC017."""
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, (list, tuple)) else [given]
    try:
        numbers = [int(p) for p in parts]
    except (TypeError, ValueError):
        numbers = []
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) != 3 or not 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        raise UsageError(
            "SC017", f"{option} is {given!r}", hints=[f"{option}=LEAST,USUAL,LARGEST, for example 100,400,1600"]
        )
    return tuple(numbers)


def _asked(option: str, given: Range, size: Size, name: str, least: int, most: int | None) -> Range:
    values = []
    for length in given:
        value = solve(size, length) if len(symbols(size)) == 1 else length
        if value is None or value < least or (most is not None and value > most):
            at = lambda n: evaluate(size, {name: n}) if symbols(size) == {name} else n
            end = "or more" if most is None else f"to {at(most)}"
            raise UsageError("SC017", f"{option}: {length} is no size that the model takes ({size}: {at(least)} {end})")
        values.append(value)
    return tuple(values)


def _usual(v: Varying, least: int, most: int | None, usual: int | None) -> Range:
    if not v.timed:
        low, middle, high = BATCH
        middle = usual or middle
        return _within(least, min(low, middle), middle, max(high, middle), most)
    middle = usual or (SAMPLES if v.bare else FRAMES)
    return _within(least, least, middle, middle * LONGER, most)


def _within(least: int, low: int, middle: int, high: int, most: int | None) -> Range:
    clip = lambda n: max(least, n if most is None else min(n, most))
    return clip(low), clip(middle), clip(high)


def shapes(graph: Graph, chosen: Mapping[str, Range]) -> Shapes:
    """The three shapes of every input whose sizes vary."""
    out = {}
    for v in graph.inputs:
        if any(symbols(s) for s in v.type.sizes):
            out[v.name] = tuple(
                tuple(evaluate(s, {n: r[i] for n, r in chosen.items()}) for s in v.type.sizes) for i in range(3)
            )
    return out


def as_text(found: Shapes) -> list[str]:
    """Shapes as the command line takes them: `x=1x10x80,1x160x80,1x2560x80`."""
    return [f"{n}=" + ",".join("x".join(map(str, s)) for s in three) for n, three in found.items()]


def from_text(texts: Iterable[str]) -> Shapes:
    """Shapes read back. Raises `UsageError` SC017."""
    out = {}
    for text in texts:
        name, _, rest = text.rpartition("=")
        try:
            found = tuple(tuple(int(n) for n in s.split("x")) if s else () for s in rest.split(","))
        except ValueError:
            found = ()
        if len(found) != 3 or not name or any(math.prod(s) < 1 for s in found):
            raise UsageError("SC017", f"--shapes {text}", hints=["NAME=LEAST,USUAL,LARGEST, each like 1x160x80"])
        out[name] = found
    return out

"""The table `name of a MIL op -> what it computes`, in numpy, for every version of the op set.

A meaning is a function whose keyword arguments are the op's parameters by Apple's names, with Apple's defaults.
Float16 operands arrive widened to float32 and the interpreter rounds the result, so a function is written once for
both precisions; one marked `moves` only moves elements about and gets them as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

TABLE: dict[str, list[Meaning]] = {}


class Refused(Exception):
    """What a meaning raises for operands that it does not accept; the interpreter adds the op and a code."""


@dataclass(frozen=True)
class Meaning:
    """One version of an op.

    `gives` says what each result holds: the name of a parameter (results of its type), "x|y" (of the one that is no
    constant), "=bool" (a type), "@dtype" (the type that a parameter names) or "*" (of any type); the last entry serves
    all further results. `alike` are parameters that must have one element type. `later` are parameters that an op set
    older than the one given does not know.
    """

    run: Callable
    since: int
    gives: tuple[str, ...]
    moves: bool = False
    alike: tuple[str, ...] = ()
    later: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.run).parameters

    @cached_property
    def lists(self) -> frozenset[str]:
        """Parameters that take several operands."""
        return frozenset(n for n, p in self.parameters.items() if p.annotation in (tuple, "tuple"))


def mil(*names: str, since: int = 15, gives: str | tuple[str, ...] = (), moves=False, alike=(), later=None) -> Callable:
    """Put a function into the table under `names`, for op sets from iOS `since` on. Results are of the type of the
    first parameter unless `gives` says otherwise."""

    def enter(run: Callable) -> Callable:
        types = (gives,) if isinstance(gives, str) else gives or (next(iter(inspect.signature(run).parameters)),)
        meaning = Meaning(run, since, types, moves, tuple(alike), later or {})
        for name in names:
            TABLE.setdefault(name, []).append(meaning)
        return run

    return enter


def meaning_of(name: str, opset: int) -> Meaning | None:
    """The newest version of an op that an op set (15 for iOS 15) has; None if it has none."""
    known = [m for m in TABLE.get(name, ()) if m.since <= opset]
    return max(known, key=lambda m: m.since, default=None)

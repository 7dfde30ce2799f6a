"""Finds which pass, and in it which single rewrite, first breaks equality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..ir.errors import SpeechcError
from ..ir.graph import Module
from ..ir.text import clone, print_module
from ..ir.verifier import verify
from ..passes.base import RESHAPING, Context, Pass
from .manager import compare, keeps
from .reduce import reduce
from .samples import default_sizes, draw


@dataclass
class Culprit:
    """The pass at `index` breaks equality; its change number `change` (from 1) is the first that does."""

    index: int
    pass_name: str
    change: int | None
    reason: str
    before: Module
    after: Module
    step: Pass

    def __str__(self) -> str:
        which = f"its change {self.change}" if self.change else "as a whole"
        return f"pass {self.index} ({self.pass_name}), {which}: {self.reason}"


def bisect(module: Module, passes: list[Pass], feeds: Mapping[str, np.ndarray], context: Context) -> Culprit | None:
    """Run `passes` on a copy of `module`, comparing in float64 after each; None if all keep what they declare."""
    before = clone(module)
    for index, p in enumerate(passes, 1):
        after, high, reason = _attempt(p, before, feeds, context, None)
        if reason is None:
            before = after
            continue
        low, single = 0, high > 1  # `low` changes are fine, `high` are not
        while high - low > 1:
            middle = (low + high) // 2
            if _attempt(p, before, feeds, context, middle)[2] is None:
                low = middle
            else:
                high = middle
        after, _, reason = _attempt(p, before, feeds, context, high)
        return Culprit(index, str(p), high if single else None, reason or "", before, after, p)
    return None


def smallest(culprit: Culprit, context: Context) -> Module:
    """The few ops of the graph before the culprit on which its pass still goes wrong, on random feeds."""

    def fails(trial: Module) -> bool:
        feeds = draw(trial.main, default_sizes(trial.main, trial.meta.get("limits", {})))
        return _attempt(culprit.step, trial, feeds, context, None)[2] is not None

    return reduce(culprit.before, fails) if fails(culprit.before) else culprit.before


def _apply(p: Pass, module: Module, context: Context) -> None:
    for graph in module.graphs.values():
        p.run(graph, context)
        graph.sweep()


def _attempt(p: Pass, before: Module, feeds, context: Context, limit: int | None) -> tuple[Module, int, str | None]:
    """The graph after at most `limit` changes, how many were made, and why it is wrong (None if it is right)."""
    trial = clone(before)
    own = replace(context, limit=limit, changes=0, remarks=[], _told=set(), meta=trial.meta)
    try:
        _apply(p, trial, own)
        verify(trial)
        if isinstance(p.equal, RESHAPING) or print_module(trial) == print_module(before):
            return trial, own.changes, None
        found = compare(before, trial, feeds, p)
    except SpeechcError as error:
        return trial, own.changes, error.message
    return trial, own.changes, None if keeps(p, found) else f"declares {p.equal}, but {found}"

"""Counts what a listener runs: calls of its sessions, and multiply-accumulates as the manifests' cost has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...ir.cost import Cost
from ...ir.expr import evaluate, parse_size, symbols
from ...lowering.manifest import Manifest
from ...lowering.target import Session
from ..listen.listener import Listener
from ..listen.single import SingleFile


class Meter:
    """Stands before the sessions of a listener. `macs` is None where a manifest says no cost."""

    def __init__(self, listener: Listener):
        self.calls, self.macs = 0, 0
        self.known = all(s.manifest.cost is not None for s in listener.sessions.values())
        for session in listener.sessions.values():
            self._stand_before(session)

    def reset(self) -> None:
        """Count from zero."""
        self.calls = self.macs = 0

    def _stand_before(self, session: Session) -> None:
        run, cost = session.run_named, self.known and Cost.of(session.manifest.cost)

        def counted(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.calls += 1
            if cost:
                self.macs += macs_of(cost, session.manifest, feeds)
            return run(feeds)

        session.run_named = counted


def macs_of(cost: Cost, manifest: Manifest, feeds: Mapping[str, np.ndarray]) -> int:
    """Multiply-accumulates of one call."""
    if isinstance(cost.macs, int):
        return cost.macs
    sizes = {}
    for port in manifest.inputs:
        for said, size in zip(port.shape, feeds[port.name].shape):
            if isinstance(said, str) and symbols(parse_size(said)) == {said}:
                sizes[said] = size
    return int(evaluate(cost.macs, sizes))


def macs_a_second(listener: Listener) -> float | None:
    """Multiply-accumulates for a second of audio, where every call takes a fixed number of samples; else None."""
    if not isinstance(listener, SingleFile) or listener.chunk_samples is None or listener.manifest.cost is None:
        return None
    macs = Cost.of(listener.manifest.cost).macs
    return macs * listener.sample_rate / listener.chunk_samples if isinstance(macs, int) else None

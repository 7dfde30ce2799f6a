"""A file run as its users run it, whole or chunk by chunk, with every call that this makes kept for a second look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...lowering.stream_session import BatchSession
from ...lowering.streaming import CLOCK_INPUT, RANGE_SUFFIX
from ...lowering.target import Session
from ..samples import Feeds


@dataclass
class Call:
    """What a file was given once: its inputs, and its states before."""

    feeds: Feeds
    states: dict[str, np.ndarray]


class Recorder(Session):
    """A session that keeps the first `most` calls made to it: the states of a decoder are large, and its calls many."""

    def __init__(self, session: Session, most: int):
        self.most = most
        self.inner, self.manifest, self.runner = session, session.manifest, session.runner
        self.calls: list[Call] = []

    @property
    def states(self) -> dict[str, np.ndarray]:
        return self.inner.states

    def reset(self) -> None:
        self.inner.reset()

    def run_named(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if len(self.calls) < self.most:
            states = {p.name: np.array(self.inner.state(p.name)) for p in self.manifest.states}
            self.calls.append(Call(dict(feeds), states))
        return self.inner.run_named(feeds)


def heard(session: Session, feeds: Feeds) -> dict[str, np.ndarray]:
    """All outputs of a file for one utterance, by name; a step file is fed chunk by chunk, in uneven pieces."""
    manifest = session.manifest
    session.reset()
    if manifest.streaming is None:
        return session.run_named(feeds)
    timed = {p.name for p in manifest.inputs if p.time is not None}
    batch = BatchSession(session, {n: a for n, a in feeds.items() if n not in timed and n != CLOCK_INPUT}, np.nan)
    if batch.batch > 1:  # the same utterance in every stream: the first of them is compared
        rows = {t.name: feeds[t.name].take([0], t.batch_axis) for t in batch.layout.inputs}
    else:
        rows = {t.name: feeds[t.name] for t in batch.layout.inputs}
    batch.reset()
    first = batch.layout.inputs[0]
    total, parts, at, random = rows[first.name].shape[first.axis], [], 0, np.random.default_rng(0)
    while at < total:
        ahead = min(total, at + int(random.integers(1, 2 * batch.layout.chunk + 1)))
        cut = [_cut(rows[t.name], t, at, ahead, total) for t in batch.layout.inputs]
        parts.append(batch.step({i: cut for i in range(batch.batch)})[0])
        at = ahead
    parts.append(batch.flush()[0])
    axes = {t.name: t.axis for t in batch.layout.outputs}
    names = [p.name for p in manifest.outputs if p.name in axes or p.name in batch.layout.plain]
    joined = {n: np.concatenate(p, axes[n]) if n in axes else p[-1] for n, p in zip(names, zip(*parts, strict=True))}
    return {n: a for n, a in joined.items() if a is not None and not n.endswith(RANGE_SUFFIX)}


def _cut(array: np.ndarray, track, start: int, stop: int, total: int) -> np.ndarray:
    frames = lambda n: array.shape[track.axis] if n == total else int(n * track.rate)
    return array[(slice(None),) * track.axis + (slice(frames(start), frames(stop)),)]

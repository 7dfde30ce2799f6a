"""Sessions on step files: chunks of any size in, and the model's outputs out, which joined along time are the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np

from ..ir.errors import UnsupportedError, UsageError
from ..ir.types import DTYPES
from .manifest import Port, longest
from .streaming import CLOCK_INPUT, RANGE_SUFFIX, Track, batch_axis, layout_of
from .target import Session

Outputs = tuple[np.ndarray, ...]


@dataclass
class _Place:
    """How far one stream is: frames pushed but not yet fed, by input; frames pushed in all; steps done; its end."""

    waiting: dict[str, list[np.ndarray]]
    pushed: dict[str, int]
    steps: int = 0
    flushed: bool = False
    out: dict[str, list[np.ndarray]] = field(default_factory=dict)
    plain: dict[str, np.ndarray] = field(default_factory=dict)


class BatchSession:
    """The streams of one step file, as many as its batch, each pushed, flushed and reset alone.

    `session` runs the file; states are kept here, so that many streams can share one loaded file. `constants` are the
    inputs that do not follow time, whole. Streams that have a full chunk move together in one step; the others keep
    their states. `tail` is what stands behind the end of a stream. Arrays are in the model's own layout, with one row
    along the batch axis.
    """

    def __init__(self, session: Session, constants: Mapping[str, np.ndarray] | None = None, tail: float = 0.0):
        self.session, self.manifest = session, session.manifest
        self.layout = layout_of(self.manifest)
        self.constants = {n: np.array(a) for n, a in (constants or {}).items()}
        wanted = [p.name for p in self.layout.constants]
        if sorted(wanted) != sorted(self.constants):
            given = ", ".join(self.constants) or "none"
            raise UsageError("SC110", f"inputs given once are {', '.join(wanted) or 'none'}; got {given}")
        self.batch, self.tail = self.layout.batch, tail
        self._ports = {p.name: p for p in (*self.manifest.inputs, *self.manifest.outputs)}
        self.constants = {n: narrowed(a, self._ports[n].dtype) for n, a in self.constants.items()}
        for array in self.constants.values():
            array.flags.writeable = False
        axes = {s.name: batch_axis(s, self.batch) if s.batch_axis is None else s.batch_axis for s in self._states}
        if self.batch > 1 and None in axes.values():
            raise UsageError("SC050", f"state {next(n for n, a in axes.items() if a is None)} has no axis of streams")
        self._axes: dict[str, int] = {n: a for n, a in axes.items() if a is not None}
        session.reset()
        self._initial = {s.name: session.state(s.name) for s in self._states}
        self._values = dict(self._initial)
        self._places = [self._start() for _ in range(self.batch)]
        self.streams = [StreamSession(self, i) for i in range(self.batch)]

    @property
    def _states(self) -> list[Port]:
        return self.manifest.states

    # -- what users call -------------------------------------------------------------------------------------------
    def step(self, chunks: Mapping[int, Sequence[np.ndarray]]) -> dict[int, Outputs]:
        """Feed `{stream: one array an input along time}`; `{stream: outputs}`, for every stream that was fed.

        An array may hold any number of frames; it is copied, and may be filled anew. Float64 is taken as float32.
        Raises `UsageError` SC213 for a chunk of another shape, or a stream that was flushed or is not there, and
        `UnsupportedError` SC211 where a stream gets longer than the model can be: then no stream has taken anything.
        """
        for i, arrays in {i: self._accepted(i, arrays) for i, arrays in chunks.items()}.items():
            self._take(i, arrays)
        while ready := {i: self.layout.chunk for i in chunks if self._full(self._places[i])}:
            self._move(ready)
        return {i: self._give(i) for i in chunks}

    def flush(self, streams: Iterable[int] | None = None) -> dict[int, Outputs]:
        """End streams (all by default): `{stream: the rest of its outputs}`. Reset a stream before it goes on."""
        ending = list(range(self.batch)) if streams is None else list(streams)
        goal = {}
        for i in ending:
            place = self._place(i)
            frames = place.pushed[self.layout.inputs[0].name]
            ticks = self.layout.ticks(frames)
            for t in self.layout.inputs[1:]:
                if place.pushed[t.name] != t.frames(ticks):
                    raise UsageError(
                        "SC112",
                        f"stream {i} has {frames} frames of {self.layout.inputs[0].name}, and with them go "
                        f"{t.frames(ticks)} of {t.name}, not {place.pushed[t.name]}",
                    )
            goal[i] = (self.layout.steps(frames), frames)
        for i in ending:
            self._places[i].flushed = True
        while ready := {
            i: max(0, min(self.layout.chunk, frames - self._places[i].steps * self.layout.chunk))
            for i, (steps, frames) in goal.items()
            if self._places[i].steps < steps
        }:
            self._move(ready)
        return {i: self._give(i) for i in ending}

    def reset(self, streams: Iterable[int] | None = None) -> None:
        """Start streams (all by default) from the beginning. Raises `UsageError` SC213 for one that is not there."""
        starting = range(self.batch) if streams is None else [self._there(i) for i in streams]
        if len(set(starting)) == self.batch:
            self._values = dict(self._initial)
            self._places = [self._start() for _ in range(self.batch)]
            return
        for i in starting:
            self._places[i] = self._start()
            for name, axis in self._axes.items():
                self._values[name] = _with_rows(self._values[name], self._initial[name], axis, [i], self.batch)

    def reorder(self, streams: Sequence[int]) -> None:
        """Stream i goes on as stream `streams[i]` was: how hypotheses of a search share what they have heard."""
        order = [self._there(i) for i in streams]
        if order != list(range(self.batch)):
            self._values = {n: v.take(order, self._axes[n]) for n, v in self._values.items()}
            self._places = [deepcopy(self._places[i]) for i in order]

    # -- one stream ------------------------------------------------------------------------------------------------
    def _start(self) -> _Place:
        names = [t.name for t in self.layout.inputs]
        return _Place({n: [] for n in names}, dict.fromkeys(names, 0))

    def _there(self, i: int) -> int:
        if not 0 <= i < self.batch:
            raise UsageError("SC213", f"there is no stream {i}; this file has {self.batch}")
        return i

    def _place(self, i: int) -> _Place:
        if self._places[self._there(i)].flushed:
            raise UsageError("SC213", f"stream {i} has ended", hints=["reset() before the next stream"])
        return self._places[i]

    def _accepted(self, i: int, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The arrays of a chunk, if stream `i` can take them."""
        place, tracks = self._place(i), self.layout.inputs
        if len(arrays) != len(tracks):
            raise UsageError("SC213", f"a chunk is {len(tracks)} arrays ({', '.join(t.name for t in tracks)})")
        chunks = [self._checked(t, np.asarray(a)) for t, a in zip(tracks, arrays)]
        first = tracks[0]
        total = place.pushed[first.name] + chunks[0].shape[first.axis]
        most = longest(first.length, self.manifest.limits)
        if most is not None and total > most:
            raise UnsupportedError(
                "SC211",
                f"a stream of {total} frames of {first.name}: the model takes {most} at most (its positions end)",
            )
        return chunks

    def _take(self, i: int, arrays: Sequence[np.ndarray]) -> None:
        place = self._places[i]
        for t, a in zip(self.layout.inputs, arrays):
            place.pushed[t.name] += a.shape[t.axis]
            if a.shape[t.axis]:
                place.waiting[t.name].append(a.copy())  # the caller may fill its buffer anew

    def _checked(self, t: Track, array: np.ndarray) -> np.ndarray:
        port = self._ports[t.name]
        array = narrowed(array, port.dtype)
        want = [1 if i == t.batch_axis else n for i, n in enumerate(port.shape)]
        if (
            array.dtype != DTYPES[port.dtype]
            or array.ndim != len(want)
            or any(n != m for i, (n, m) in enumerate(zip(array.shape, want)) if i != t.axis)
        ):
            shape = ", ".join("frames" if i == t.axis else str(n) for i, n in enumerate(want))
            raise UsageError(
                "SC213", f"a chunk of {t.name} is {port.dtype}[{shape}], not {array.dtype}{list(array.shape)}"
            )
        return array

    def _full(self, place: _Place) -> bool:
        done = place.steps + 1
        return all(place.pushed[t.name] >= done * t.block for t in self.layout.inputs)

    def _block(self, place: _Place, t: Track) -> np.ndarray:
        """The next block of an input, filled up with the tail where the stream has no more."""
        waiting = place.waiting[t.name]
        joined = waiting[0] if len(waiting) == 1 else np.concatenate(waiting, t.axis) if waiting else self._empty(t, 0)
        head, rest = np.split(joined, [t.block], t.axis)
        place.waiting[t.name] = [rest] if rest.shape[t.axis] else []
        if head.shape[t.axis] == t.block:
            return head
        return np.concatenate([head, self._empty(t, t.block - head.shape[t.axis])], t.axis)

    def _empty(self, t: Track, frames: int) -> np.ndarray:
        port = self._ports[t.name]
        shape = [frames if i == t.axis else 1 if i == t.batch_axis else n for i, n in enumerate(port.shape)]
        filling = self.tail if port.dtype in ("f16", "f32", "f64") else 0
        return np.full(shape, filling, DTYPES[port.dtype])

    def _give(self, i: int) -> Outputs:
        place, out = self._places[i], []
        tracks = {t.name: t for t in self.layout.outputs}
        for p in self.manifest.outputs:
            if p.name in tracks:
                parts, t = place.out.pop(p.name, []), tracks[p.name]
                out.append(np.concatenate(parts, t.axis) if parts else self._empty(t, 0))
            elif p.name in self.layout.plain:
                out.append(place.plain.get(p.name))
        return tuple(out)

    # -- one step --------------------------------------------------------------------------------------------------
    def _move(self, ready: Mapping[int, int]) -> None:
        """One step: each stream in `ready` by that many real frames; the others stay where they are."""
        feeds = dict(self.constants)
        for t in self.layout.inputs:
            rows = [
                self._block(self._places[i], t) if i in ready else self._empty(t, t.block) for i in range(self.batch)
            ]
            feeds[t.name] = np.ascontiguousarray(rows[0] if len(rows) == 1 else np.concatenate(rows, t.batch_axis))
        if self.layout.clocked:
            feeds[CLOCK_INPUT] = np.array([ready.get(i, 0) for i in range(self.batch)], np.int32)
        idle = [i for i in range(self.batch) if i not in ready]
        for name, value in self._values.items():
            self.session.set_state(name, value)
        got = self.session.run_named(feeds)
        for name, old in self._values.items():
            new = self.session.state(name)
            self._values[name] = _with_rows(new, old, self._axes[name], idle, self.batch) if idle else new
        for i in ready:
            place = self._places[i]
            for t in self.layout.outputs:
                first, last = self._range(place, t, i, got)
                if last > first:
                    row = got[t.name] if self.batch == 1 else got[t.name].take([i], t.batch_axis)
                    cut = (slice(None),) * t.axis + (slice(first, last),)
                    place.out.setdefault(t.name, []).append(row[cut])
            for name in self.layout.plain:
                axis = batch_axis(self._ports[name], self.batch)
                place.plain[name] = got[name] if axis is None or self.batch == 1 else got[name].take([i], axis)
            place.steps += 1

    def _range(self, place: _Place, t: Track, i: int, got: Mapping[str, np.ndarray]) -> tuple[int, int]:
        if self.layout.clocked:
            first, last = got[t.name + RANGE_SUFFIX][i]
            return int(first), int(last)
        if not place.flushed:
            return 0, t.block
        length = t.frames(self.layout.ticks(place.pushed[self.layout.inputs[0].name]))
        return 0, min(max(length - place.steps * t.block, 0), t.block)


class ManyStreams:
    """Independent streams that take turns in a file for one: the interface of a `BatchSession`, for any number."""

    def __init__(self, session: Session, count: int, constants: Mapping[str, np.ndarray] | None = None):
        self.streams = [BatchSession(session, constants).streams[0] for _ in range(count)]

    def step(self, chunks: Mapping[int, Sequence[np.ndarray]]) -> dict[int, Outputs]:
        """As `BatchSession.step`."""
        for i, arrays in chunks.items():
            self._stream(i).check(*arrays)
        return {i: self.streams[i].push(*arrays) for i, arrays in chunks.items()}

    def flush(self, streams: Iterable[int] | None = None) -> dict[int, Outputs]:
        """As `BatchSession.flush`."""
        return {i: stream.flush() for i, stream in self._some(streams).items()}

    def reset(self, streams: Iterable[int] | None = None) -> None:
        """As `BatchSession.reset`."""
        for stream in self._some(streams).values():
            stream.reset()

    def _some(self, streams: Iterable[int] | None) -> dict[int, StreamSession]:
        return {i: self._stream(i) for i in (range(len(self.streams)) if streams is None else streams)}

    def _stream(self, i: int) -> StreamSession:
        if not 0 <= i < len(self.streams):
            raise UsageError("SC213", f"there is no stream {i}; there are {len(self.streams)}")
        return self.streams[i]


class StreamSession:
    """One stream: `push` chunks of any size, `flush` at its end, `reset` before the next."""

    def __init__(self, batch: BatchSession, index: int = 0):
        self._batch, self.index = batch, index

    def push(self, *chunks: np.ndarray) -> Outputs:
        """The outputs that these frames complete: a tuple in the model's order, often with no frames in it.

        One array an input along time, in order, in the model's own layout; any number of frames, none too. Joined along
        time, the results of every `push` and of `flush` are the model's outputs for the whole input. Raises as
        `BatchSession.step`.
        """
        return self._batch.step({self.index: chunks})[self.index]

    def check(self, *chunks: np.ndarray) -> None:
        """Raise what `push` would raise for this chunk; nothing is taken."""
        self._batch._accepted(self.index, chunks)

    def flush(self) -> Outputs:
        """The rest of the outputs: the stream ends here."""
        return self._batch.flush([self.index])[self.index]

    def reset(self) -> None:
        """Start from the beginning, as if nothing had been pushed."""
        self._batch.reset([self.index])


def narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    """`array`; in float32 where it is float64, which is numpy's own, and f32 is wanted."""
    return array.astype(np.float32) if dtype == "f32" and array.dtype == np.float64 else array


def _with_rows(array: np.ndarray, source: np.ndarray, axis: int, streams: Sequence[int], batch: int) -> np.ndarray:
    """`array` with what belongs to `streams` taken from `source`; a stream has one row along `axis`, or several."""
    out, each = array.copy(), array.shape[axis] // batch
    where = (slice(None),) * axis + ([i * each + row for i in streams for row in range(each)],)
    out[where] = source[where]
    return out

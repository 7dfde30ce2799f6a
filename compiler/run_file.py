"""`speechc run`: a compiled file on a recording, whole or chunk by chunk, and what it says so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import UsageError
from ..lowering.manifest import Manifest
from ..lowering.stream_session import narrowed
from .audio import read_arrays
from .audio_port import model_inputs
from .decode.result import Alternative
from .listen import Heard, Listener, Stream, open_listener
from .listen.listener import joined
from .listen.single import SingleFile
from .recordings import SUFFIXES, Note, Recording, read_recording

ARRAYS = (".npy", ".npz")
Progress = Callable[[float, float], None]


@dataclass
class Line:
    """One result: `at` is the time of the audio heard so far in ms (None: not known), `text` or `outputs` the news."""

    at: float | None
    text: str | None
    outputs: dict[str, dict[str, Any]]
    final: bool = False
    segments: list[dict[str, Any]] | None = None
    notes: list[Note] = field(default_factory=list)
    alternatives: list[Alternative] | None = None
    usage: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        what = {"outputs": self.outputs} if self.text is None else {"text": self.text}
        more = {} if self.segments is None else {"segments": self.segments}
        if self.alternatives is not None:
            more["alternatives"] = [a.as_dict() for a in self.alternatives]
        if self.usage is not None:
            more["usage"] = self.usage
        if self.notes:
            more["notes"] = {n.kind: n.text for n in self.notes}
        return {"at_ms": self.at, **what, **more, "final": self.final}

    def __str__(self) -> str:
        when = "" if self.at is None else f"{self.at / 1000:8.2f} s  "
        if self.text is not None:
            return f"{when}{self.text}"
        if self.segments is not None:
            each = (f"{s['label']} {s['start']:.2f}-{s['end']:.2f} s ({s['score']:.3f})" for s in self.segments)
            return when + (", ".join(each) or "nothing")
        return when + "  ".join(
            f"{n}: {o['dtype']}{o['shape']}"
            + (f" frames {o['frames'][0]} to {o['frames'][1]}" if "frames" in o else "")
            for n, o in self.outputs.items()
        )


def line_of(heard: Heard) -> Line:
    """A result for printing: arrays by their types and shapes."""
    outputs = {}
    for name, array in heard.outputs.items():
        outputs[name] = {"dtype": str(array.dtype), "shape": list(array.shape)}
        if name in heard.frames:
            outputs[name]["frames"] = list(heard.frames[name])
    at = None if heard.at is None else 1000 * heard.at
    segments = None if heard.segments is None else [s.as_dict() for s in heard.segments]
    return Line(at, heard.text, outputs, heard.final, segments, heard.notes, heard.alternatives, heard.usage)


def run_file(path: Path, source: Path, stream: bool = False, threads: int | None = None) -> Iterator[Line]:
    """The results of a file on a recording (or `.npy`, `.npz` inputs): the last one, or with `stream` each that is new.

    Raises `UsageError` SC050 for `stream` on a file that takes whole utterances.
    """
    yield from map(line_of, results(open_listener(path, threads), source, stream))


def results(
    listener: Listener, source: Path | Recording, stream: bool = False, progress: Progress = lambda done, of: None
) -> Iterator[Heard]:
    """The results of a listener on a recording, or on arrays in a file (`.npy`, `.npz`), which a file alone takes.

    The last one, or with `stream` each that is new. `progress` is told the seconds done, and those that there are.
    """
    if isinstance(source, Path) and source.suffix in ARRAYS:
        found = _of_arrays(listener, source, stream)
    else:
        if stream and not listener.streams:
            listener.stream()  # says why not
        recording = recorded(listener, source) if isinstance(source, Path) else source
        found = _of_samples(listener, recording, stream, progress)
    for heard in found:
        if heard.final and (bad := not_numbers(heard)):
            heard.notes.append(Note("NaN", f"{bad} has values that are no numbers"))
        yield heard


def recorded(listener: Listener, source: Path, name: str | None = None) -> Recording:
    """A recording as a listener wants it. Raises `UsageError` as `read_recording`, and SC034 where it takes none."""
    if not source.exists():
        raise UsageError("SC010", f"{name or source} does not exist")
    if source.suffix.lower() not in SUFFIXES:
        raise UsageError("SC030", f"{source} is none of {', '.join(SUFFIXES)}, .npy or .npz")
    listener.check_audio()
    return read_recording(source, listener.sample_rate, name)


def not_numbers(heard: Heard) -> str | None:
    """The name of an output with NaN in it; None where all are well."""
    floats = ((n, a) for n, a in heard.outputs.items() if a.dtype.kind == "f")
    return next((n for n, a in floats if np.isnan(a).any()), None)


def pieces(listener: Listener, recording: Recording) -> list[np.ndarray]:
    """The samples of a recording, a step of the listener each."""
    size = listener.chunk_samples or max(1, recording.rate // 10)
    return np.split(recording.samples, range(size, len(recording.samples), size))


def streamed(stream: Stream, blocks: Iterable[np.ndarray], partial: bool) -> Iterator[Heard]:
    """Results of blocks as they come: with `partial` each that is new, else one, of them all."""
    parts = []
    for samples in blocks:
        if (heard := stream.push(samples)) is not None:
            if partial:
                yield heard
            else:
                parts.append(heard)
    last = stream.flush()
    yield last if partial else joined([*parts, last], stream.axes)


def _of_samples(listener: Listener, recording: Recording, stream: bool, progress: Progress) -> Iterator[Heard]:
    def blocks() -> Iterator[np.ndarray]:
        done = 0
        for samples in pieces(listener, recording):
            yield samples
            done += len(samples)
            progress(done / recording.rate, recording.seconds)

    found = streamed(listener.stream(), blocks(), stream) if listener.streams else [listener.hear(recording.samples)]
    for heard in found:
        if heard.final:
            heard.notes[:0] = recording.notes
        yield heard


def _of_arrays(listener: Listener, source: Path, stream: bool) -> Iterator[Heard]:
    if not isinstance(listener, SingleFile):
        raise UsageError("SC030", f"{listener.source.path} takes recordings, not arrays")
    arrays = read_inputs(listener.manifest, source)
    if not stream:
        yield listener.hear_arrays(arrays)
        return
    session = listener.stream_arrays(arrays)
    tracks = session.layout.inputs
    for k in range(-(-arrays[tracks[0].name].shape[tracks[0].axis] // tracks[0].block)):
        cut = [arrays[t.name][(slice(None),) * t.axis + (slice(k * t.block, (k + 1) * t.block),)] for t in tracks]
        heard = session.push_arrays(cut)
        if heard is not None:
            yield heard
    yield session.flush()


def read_inputs(manifest: Manifest, source: Path) -> dict[str, np.ndarray]:
    """The inputs of a file by name, from a file of arrays: `.npy` for its only input, `.npz` by name.

    Raises `UsageError`: SC010, SC030 for a file that is damaged, SC110 where an input is missing.
    """
    ports = model_inputs(manifest)
    if not source.exists():
        raise UsageError("SC010", f"{source} does not exist")
    given = read_arrays(source)
    if isinstance(given, np.ndarray):
        if len(ports) != 1:
            names = ", ".join(p.name for p in ports)
            raise UsageError(
                "SC110", f"{source} is one array; the file takes {names}", hints=["an .npz with all of them"]
            )
        given = {ports[0].name: given}
    if missing := [p.name for p in ports if p.name not in given]:
        raise UsageError("SC110", f"{source} has no array {', '.join(missing)}")
    return {p.name: narrowed(given[p.name], p.dtype) for p in ports}

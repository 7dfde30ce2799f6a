"""`speechc run`: a compiled file on a recording, whole or chunk by chunk, and what it says so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import UsageError
from ..lowering.manifest import Manifest
from ..lowering.stream_session import narrowed
from .audio import SUFFIXES, read_audio
from .audio_port import audio_port, laid_out, model_inputs
from .listen import Heard, Listener, open_listener
from .listen.listener import whole_only
from .listen.single import ChunkStream, SingleFile


@dataclass
class Line:
    """One result: `at` is the time of the audio heard so far in ms (None: not known), `text` or `outputs` the news."""

    at: float | None
    text: str | None
    outputs: dict[str, dict[str, Any]]
    final: bool = False
    segments: list[dict[str, Any]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        what = {"outputs": self.outputs} if self.text is None else {"text": self.text}
        more = {} if self.segments is None else {"segments": self.segments}
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
    return Line(at, heard.text, outputs, heard.final, segments)


def run_file(path: Path, source: Path, stream: bool = False, threads: int | None = None) -> Iterator[Line]:
    """The results of a file on a recording (or `.npy`, `.npz` inputs): the last one, or with `stream` each that is new.

    Where the manifest has tokens and one output scores them, or gives their numbers, the result is the text of greedy
    CTC decoding (of the output `tokens`, where the file decodes itself). A step file is fed chunk by chunk either way.
    Raises `UsageError` SC050 for `stream` on another file.
    """
    yield from map(line_of, results(open_listener(path, threads), source, stream))


def results(listener: Listener, source: Path, stream: bool = False) -> Iterator[Heard]:
    """The results of a listener on one recording, or on arrays, which only a file that is alone takes."""
    if isinstance(listener, SingleFile):
        arrays = read_inputs(listener.manifest, source)
        if listener.manifest.streaming is not None:
            yield from _chunks(listener.stream_arrays(arrays), listener, arrays, stream)
        elif stream:
            raise whole_only(listener.source.path)
        else:
            yield listener.hear_arrays(arrays)


def _chunks(
    session: ChunkStream, listener: SingleFile, arrays: dict[str, np.ndarray], partial: bool
) -> Iterator[Heard]:
    tracks = session.layout.inputs
    given = [arrays[t.name] for t in tracks]
    steps = -(-given[0].shape[tracks[0].axis] // tracks[0].block)
    for k in range(steps):
        cut = [a[(slice(None),) * t.axis + (slice(k * t.block, (k + 1) * t.block),)] for a, t in zip(given, tracks)]
        heard = session.push_arrays(cut)
        if heard is not None and partial:
            yield heard
    yield session.flush()


def read_inputs(manifest: Manifest, source: Path) -> dict[str, np.ndarray]:
    """The inputs of a file by name: a recording for its only audio input, `.npy` for its only input, `.npz` by name."""
    ports = model_inputs(manifest)
    if not source.exists():
        raise UsageError("SC010", f"{source} does not exist")
    if source.suffix == ".npz":
        with np.load(source, allow_pickle=False) as arrays:
            given = dict(arrays)
        missing = [p.name for p in ports if p.name not in given]
        if missing:
            raise UsageError("SC110", f"{source} has no array {', '.join(missing)}")
        return {p.name: narrowed(given[p.name], p.dtype) for p in ports}
    if len(ports) != 1:
        names = ", ".join(p.name for p in ports)
        raise UsageError("SC110", f"{source} is one array; the file takes {names}", hints=["an .npz with all of them"])
    (port,) = ports
    if source.suffix == ".npy":
        return {port.name: narrowed(np.load(source, allow_pickle=False), port.dtype)}
    if source.suffix.lower() not in SUFFIXES:
        raise UsageError("SC030", f"{source} is none of {', '.join(SUFFIXES)}, .npy or .npz")
    port = audio_port(manifest)
    return {port.name: laid_out(read_audio(source, manifest.sample_rate), port)}

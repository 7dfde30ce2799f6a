"""`speechc run`: a compiled file on a recording, whole or chunk by chunk, and what it says so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import UsageError
from ..ir.types import DTYPES
from ..lowering.manifest import Manifest, Port
from ..lowering.stream_session import BatchSession, StreamSession, narrowed
from . import driver
from .audio import SUFFIXES, read_audio
from .words import Greedy, decoded, speaking


@dataclass
class Line:
    """One result: `at` is the time of the audio heard so far in ms (None: not known), `text` or `outputs` the news."""

    at: float | None
    text: str | None
    outputs: dict[str, dict[str, Any]]
    final: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        what = {"outputs": self.outputs} if self.text is None else {"text": self.text}
        return {"at_ms": self.at, **what, "final": self.final}

    def __str__(self) -> str:
        when = "" if self.at is None else f"{self.at / 1000:8.2f} s  "
        if self.text is not None:
            return f"{when}{self.text}"
        return when + "  ".join(
            f"{n}: {o['dtype']}{o['shape']}"
            + (f" frames {o['frames'][0]} to {o['frames'][1]}" if "frames" in o else "")
            for n, o in self.outputs.items()
        )


def run_file(path: Path, source: Path, stream: bool = False, threads: int | None = None) -> Iterator[Line]:
    """The results of a file on a recording (or `.npy`, `.npz` inputs): the last one, or with `stream` each that is new.

    Where the manifest has tokens and one output scores them, or gives their numbers, the result is the text of greedy
    CTC decoding (of the output `tokens`, where the file decodes itself). A step file is fed chunk by chunk either way.
    Raises `UsageError` SC050 for `stream` on another file.
    """
    manifest = driver.manifest_of(path)
    arrays = read_inputs(manifest, source)
    session = driver.open_artefact(path, threads)
    if manifest.streaming is None:
        if stream:
            raise UsageError(
                "SC050", f"{path} takes whole utterances, not chunks", hints=["compile it with --stream DURATION"]
            )
        out = dict(zip([p.name for p in manifest.outputs], session.run(*arrays.values())))
        news = Heard(manifest)
        news.add(list(out), list(out.values()))
        yield news.line(None, final=True)
        return
    names = [p.name for p in manifest.inputs if p.time is not None]
    constants = {n: a for n, a in arrays.items() if n not in names}
    batch = BatchSession(session, constants)
    yield from _streamed(batch.streams[0], manifest, batch, [arrays[n] for n in names], stream)


def _streamed(
    session: StreamSession, manifest: Manifest, batch: BatchSession, arrays: Sequence[np.ndarray], partial: bool
) -> Iterator[Line]:
    tracks, hz = batch.layout.inputs, manifest.streaming["tick_hz"]
    names = [p.name for p in manifest.outputs if not p.name.endswith(".range")]
    axes = {t.name: t.axis for t in batch.layout.outputs}
    heard, frames, first = Heard(manifest, axes), arrays[0].shape[tracks[0].axis], tracks[0]
    ms = lambda k: None if hz is None else 1000 * min(k * first.block, frames) / hz
    steps = -(-frames // first.block)
    for k in range(steps):
        cut = [a[(slice(None),) * t.axis + (slice(k * t.block, (k + 1) * t.block),)] for a, t in zip(arrays, tracks)]
        if heard.add(names, session.push(*cut)) and partial:
            yield heard.line(ms(k + 1))
    heard.add(names, session.flush())
    yield heard.line(ms(steps), final=True)


class Heard:
    """What the outputs said so far: the text, or how many frames there are of each output."""

    def __init__(self, manifest: Manifest, axes: dict[str, int] | None = None):
        self.axes = axes or {}
        self.speaking = speaking(manifest.outputs, manifest.tokens)
        done = any(p.name == self.speaking and decoded(p) for p in manifest.outputs)
        self.greedy = Greedy(manifest.tokens or (), -1 if done else None)
        self.frames: dict[str, int] = {}
        self.news: dict[str, dict[str, Any]] = {}

    def add(self, names: Sequence[str], arrays: Sequence[np.ndarray]) -> bool:
        """Take in outputs; whether there is something new to say."""
        self.news, before = {}, len(self.greedy.said)
        for name, array in zip(names, arrays):
            if array is None:
                continue
            told = {"dtype": str(array.dtype), "shape": list(array.shape)}
            if name in self.axes:
                start, count = self.frames.get(name, 0), array.shape[self.axes[name]]
                self.frames[name] = start + count
                told["frames"] = [start, start + count]
                if not count:
                    continue
            self.news[name] = told
            if name == self.speaking:
                self.greedy.add(array)
        return len(self.greedy.said) > before if self.speaking else bool(self.news)

    def line(self, at: float | None, final: bool = False) -> Line:
        """The state of things as a result."""
        return Line(at, self.greedy.text if self.speaking else None, self.news, final)


def read_inputs(manifest: Manifest, source: Path) -> dict[str, np.ndarray]:
    """The inputs of a file by name: a recording for its only audio input, `.npy` for its only input, `.npz` by name."""
    ports = [p for p in manifest.inputs if not _clock(manifest, p)]
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
    axis = port.time["axis"] if port.time else len(port.shape) - 1
    if any(isinstance(n, int) and n > 1 for i, n in enumerate(port.shape) if i not in (axis, 0)):
        raise UsageError(
            "SC034",
            f"{port.name} takes features ({port.dtype}{port.shape}), not audio",
            hints=[".npy or .npz features"],
        )
    if manifest.sample_rate is None:
        raise UsageError("SC034", "the file does not say its sample rate", hints=["compile it with --sample-rate HZ"])
    samples = read_audio(source, manifest.sample_rate).astype(DTYPES[port.dtype])
    return {port.name: samples.reshape([len(samples) if i == axis else 1 for i in range(len(port.shape))])}


def _clock(manifest: Manifest, p: Port) -> bool:
    return manifest.streaming is not None and p.name == "n_valid" and p.time is None

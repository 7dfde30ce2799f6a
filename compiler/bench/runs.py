"""What one run of a file is: an utterance at once, chunk by chunk, call by call, or through a listener."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from fractions import Fraction

import numpy as np

from ...ir.errors import UsageError
from ...ir.expr import evaluate, parse_size, symbols
from ...ir.registry import quantized
from ...ir.types import DTYPES
from ...lowering.manifest import Manifest, Port
from ...lowering.stream_session import BatchSession
from ...lowering.streaming import CLOCK_INPUT, RANGE_SUFFIX
from ...lowering.target import Session
from .. import driver
from ..audio_port import laid_out, model_inputs, time_axis
from ..fit.need import fitted, ticks_per_second
from ..listen.source import Source

LOUD = 0.1  # of synthetic noise, where samples go to 1
SEED = 0
SAYS = "noise makes a decoder say something else, of another length, than speech: --audio RECORDING"


class Runs(ABC):
    """A loaded file with its inputs. `seconds` of audio a run (None: not known), `chunk` seconds a step (None: whole).

    `run` gives the seconds that each part took: one for an utterance, or one a chunk.
    """

    seconds: float | None
    chunk: float | None = None
    unit = "utterance"
    notes: tuple[str, ...] = ()

    @abstractmethod
    def run(self) -> list[float]:
        """Run once; the seconds of each part."""

    @abstractmethod
    def outputs(self) -> Iterator[Mapping[str, np.ndarray]]:
        """What the parts of one run give, by name."""

    def batch(self, n: int) -> str | None:
        """Make a run take `n` utterances, or streams, at once; why it cannot, or None."""
        return None if n == 1 else "it is a folder of several files, which hear one recording at a time"

    def calls(self) -> Iterator[Mapping[str, np.ndarray]]:
        """The inputs of the calls of one run, for a profile. Raises `UsageError` SC083 for a folder."""
        raise UsageError("SC083", "a profile is of one file, not of a folder", hints=["--profile FOLDER/encoder.onnx"])


class Whole(Runs):
    """An utterance in one call."""

    def __init__(self, session: Session, seconds: float, audio: np.ndarray | None, shift: Fraction | None):
        self.session, self.manifest, self.audio = session, session.manifest, audio
        self.port = next((p for p in model_inputs(self.manifest) if p.time), model_inputs(self.manifest)[0])
        self.hz = ticks_per_second(self.manifest, self.port, shift)
        self.sizes = self._lengths(seconds)
        self.feeds = self._feeds(1)
        frames = self.feeds[self.port.name].shape[time_axis(self.port)]
        self.seconds = None if self.hz is None else float(frames / self.hz)

    def run(self) -> list[float]:
        self.session.reset()
        start = time.perf_counter()
        self.session.run_named(self.feeds)
        return [time.perf_counter() - start]

    def outputs(self) -> Iterator[Mapping[str, np.ndarray]]:
        self.session.reset()
        yield self.session.run_named(self.feeds)

    def batch(self, n: int) -> str | None:
        axis = _batch_axis(self.port)
        if n > 1 and (axis is None or isinstance(self.port.shape[axis], int)):
            held = 1 if axis is None else self.port.shape[axis]
            if n != held:
                return f"its input {self.port.name} is {self.port.dtype}{self.port.shape}: {held} at a time"
        self.feeds = self._feeds(n)
        return None

    def calls(self) -> Iterator[Mapping[str, np.ndarray]]:
        yield self.feeds

    def _lengths(self, seconds: float) -> dict[str, int]:
        """Sizes of the symbols: that of time for the length asked for, or of the recording; frames where not timed."""
        axis = time_axis(self.port)
        length = parse_size(str(self.port.shape[axis]))
        frames = len(self.audio) if self.audio is not None else int(seconds * (self.hz or 100))
        return {} if isinstance(length, int) else {next(iter(symbols(length))): fitted(length, frames, self.manifest)}

    def _feeds(self, batch: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(SEED)
        least = lambda name: (self.manifest.limits.get(name) or [1])[0] or 1
        feeds = {}
        for p in model_inputs(self.manifest):
            axis = _batch_axis(p)
            sizes = [parse_size(str(s)) for s in p.shape]
            free = {n: self.sizes.get(n, least(n)) for s in sizes for n in symbols(s)}
            if axis is not None and not isinstance(sizes[axis], int):
                free |= dict.fromkeys(symbols(sizes[axis]), batch)
            shape = [evaluate(s, free) for s in sizes]
            if p is self.port and self.audio is not None:
                n = shape[time_axis(p)]
                heard = laid_out(np.resize(self.audio, n), p)
                feeds[p.name] = np.repeat(heard, batch, 0) if len(shape) > 1 and shape[0] == batch else heard
            else:
                feeds[p.name] = noise(random, p, shape)
        return feeds


class Steps(Runs):
    """An utterance in chunks, through a step file; every chunk is timed. A batch of streams moves together."""

    unit = "chunk"

    def __init__(self, session: Session, seconds: float, audio: np.ndarray | None, shift: Fraction | None):
        constants = {}
        random = np.random.default_rng(SEED)
        for p in session.manifest.inputs:
            if p.time is None and p.name != CLOCK_INPUT:
                constants[p.name] = noise(random, p, [int(n) for n in p.shape])
        self.streams, self.constants = BatchSession(session, constants), constants
        layout, ports = self.streams.layout, {p.name: p for p in session.manifest.inputs}
        self.width = layout.batch
        first = ports[layout.inputs[0].name]
        hz = ticks_per_second(session.manifest, first, shift)
        self.chunk = None if hz is None else float(layout.chunk / hz)
        most = session.manifest.streaming["max_frames"] or 1 << 40
        frames = len(audio) if audio is not None else int(seconds * (hz or 100))
        count = max(1, min(frames, most) // layout.chunk)
        self.seconds = None if self.chunk is None else count * self.chunk
        self.chunks: list[list[np.ndarray]] = []
        for k in range(count):
            row = []
            for t in layout.inputs:
                p = ports[t.name]
                shape = [1 if i == t.batch_axis else t.block if i == t.axis else int(n) for i, n in enumerate(p.shape)]
                if audio is not None and p is first:
                    row.append(laid_out(audio[k * t.block : (k + 1) * t.block], p))
                else:
                    row.append(noise(random, p, shape))
            self.chunks.append(row)

    def run(self) -> list[float]:
        self.streams.reset()
        taken = []
        for chunk in self.chunks:
            start = time.perf_counter()
            self.streams.step(dict.fromkeys(range(self.width), chunk))
            taken.append(time.perf_counter() - start)
        return taken

    def outputs(self) -> Iterator[Mapping[str, np.ndarray]]:
        self.streams.reset()
        names = [p.name for p in self.streams.session.manifest.outputs if not p.name.endswith(RANGE_SUFFIX)]
        for chunk in self.chunks:
            given = self.streams.step(dict.fromkeys(range(self.width), chunk))[0]
            yield {n: a for n, a in zip(names, given) if a is not None}

    def batch(self, n: int) -> str | None:
        return None if n == self.width else f"it moves {self.width} stream{'s' * (self.width > 1)} a step (--batch)"

    def calls(self) -> Iterator[Mapping[str, np.ndarray]]:
        layout = self.streams.layout
        for chunk in self.chunks:
            feeds = dict(self.constants)
            for t, a in zip(layout.inputs, chunk):
                feeds[t.name] = a if self.width == 1 else np.concatenate([a] * self.width, t.batch_axis)
            if layout.clocked:
                feeds[CLOCK_INPUT] = np.full(self.width, layout.chunk, np.int32)
            yield feeds


class Calls(Runs):
    """A model with states of its own, which takes a fixed number of samples a call; every call is timed."""

    unit = "chunk"

    def __init__(self, session: Session, seconds: float, audio: np.ndarray | None, shift: Fraction | None):
        self.session = session
        inputs = model_inputs(session.manifest)
        port = inputs[0]
        block, hz = int(port.shape[time_axis(port)]), ticks_per_second(session.manifest, port, shift)
        self.chunk = None if hz is None else float(block / hz)
        random = np.random.default_rng(SEED)
        count = max(1, (len(audio) if audio is not None else int(seconds * (hz or 100))) // block)
        self.seconds = None if self.chunk is None else count * self.chunk
        others = {p.name: noise(random, p, [int(n) for n in p.shape]) for p in inputs[1:]}
        part = lambda k: (
            laid_out(audio[k * block : (k + 1) * block], port)
            if audio is not None
            else noise(random, port, [int(n) for n in port.shape])
        )
        self.feeds = [others | {port.name: part(k)} for k in range(count)]

    def run(self) -> list[float]:
        self.session.reset()
        taken = []
        for feeds in self.feeds:
            start = time.perf_counter()
            self.session.run_named(feeds)
            taken.append(time.perf_counter() - start)
        return taken

    def outputs(self) -> Iterator[Mapping[str, np.ndarray]]:
        self.session.reset()
        yield from map(self.session.run_named, self.feeds)

    def batch(self, n: int) -> str | None:
        return None if n == 1 else "it keeps states of one stream"

    def calls(self) -> Iterator[Mapping[str, np.ndarray]]:
        yield from self.feeds


class Heard(Runs):
    """A folder of several files, as its listener uses them: audio in, text out."""

    def __init__(self, source: Source, seconds: float, audio: np.ndarray | None, threads: int | None):
        from ..listen import open_listener

        self.listener = open_listener(source.path, threads)
        hz = self.listener.sample_rate
        if hz is None:
            raise UsageError("SC034", f"{source.path} does not say its sample rate")
        most = self.listener.max_samples
        if audio is None:
            audio = LOUD * np.random.default_rng(SEED).standard_normal(int(seconds * hz))
            self.notes = (
                "noise makes a decoder say something else, of another length, than speech: --audio RECORDING",
            )
        self.samples = np.ascontiguousarray(audio[:most], np.float32)
        self.seconds = len(self.samples) / hz

    def run(self) -> list[float]:
        start = time.perf_counter()
        self.listener.hear(self.samples)
        return [time.perf_counter() - start]

    def outputs(self) -> Iterator[Mapping[str, np.ndarray]]:
        yield self.listener.hear(self.samples).outputs


def open_runs(
    source: Source, threads: int | None, seconds: float, audio: np.ndarray | None, shift: Fraction | None
) -> Runs:
    """Load what lies at a path, with noise of `seconds`, or samples (at its own rate), to run it on."""
    if source.manifest is None:
        return Heard(source, seconds, audio, threads)
    session, manifest = driver.open_artefact(source.path, threads), source.manifest
    return kind_of(manifest)(session, seconds, audio, shift)


def kind_of(manifest: Manifest) -> type[Runs]:
    """How a file that is alone is run."""
    if manifest.streaming is not None:
        return Steps
    ports = model_inputs(manifest)
    if manifest.states and ports and isinstance(ports[0].shape[time_axis(ports[0])], int):
        return Calls
    return Whole


def noise(random: np.random.Generator, p: Port, shape: list[int]) -> np.ndarray:
    """Random values for an input: floats as loud as speech (on its grid where it is quantized), integers 0 or 1."""
    if p.quant is not None:
        return quantized((LOUD * random.standard_normal(shape)).astype(np.float32), p.dtype, *p.quant)
    if p.dtype.startswith("f"):
        return (LOUD * random.standard_normal(shape)).astype(DTYPES[p.dtype])
    return random.integers(0, 2, shape).astype(DTYPES[p.dtype])


def _batch_axis(p: Port) -> int | None:
    """The axis that counts utterances: the first, where it is not time and there are others."""
    time_at = p.time["axis"] if p.time else len(p.shape) - 1
    return 0 if len(p.shape) > 1 and time_at != 0 else None

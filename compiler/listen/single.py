"""A file that is alone as a listener: whole utterances, chunks of a step file, or calls of a model with state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ...ir.errors import UsageError
from ...lowering.manifest import Manifest, Port
from ...lowering.stream_session import BatchSession
from ...lowering.streaming import CLOCK_INPUT, RANGE_SUFFIX
from .. import driver
from ..audio_port import audio_port, feature_port, features_laid_out, laid_out, longest_recording, taken, time_axis
from ..decode.result import Alternative
from ..recordings import Note
from .listener import Heard, Listener, Segment, Stream, checked, joined, whole_only
from .source import MAIN, Source

Arrays = Mapping[str, np.ndarray]


def refuse_nan(outputs: Arrays, name: str) -> np.ndarray:
    """An output by name. Raises `UsageError` SC091 where it has NaN."""
    array = outputs[name]
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise UsageError("SC091", f"the file gives NaN in {name}")
    return array


class Teller:
    """What the outputs of one recording say, piece by piece; kinds say more than this one, which passes them on."""

    text: str | None = None
    segments: list[Segment] | None = None
    alternatives: list[Alternative] | None = None

    def add(self, outputs: Arrays) -> bool:
        """Take in the next frames of the outputs; whether there is something new to say."""
        return bool(outputs)

    def end(self) -> None:
        """The recording ends here."""


class SingleFile(Listener):
    """The session of one file, and what turns recordings into its inputs. Kinds add what the outputs say (`teller`)."""

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        super().__init__(source, threads, **decoding)
        self.manifest: Manifest = source.manifests[MAIN]
        self.session = driver.open_artefact(source.path, threads)
        self.sessions = {MAIN: self.session}

    def teller(self) -> Teller:
        """What follows one recording."""
        return Teller()

    # -- audio ---------------------------------------------------------------------------------------------------------
    @property
    def sample_rate(self) -> int | None:
        """Of the audio that the file takes, Hz."""
        return self.manifest.sample_rate

    @cached_property
    def port(self) -> Port:
        """The input that takes audio. Raises `UsageError` SC110 and SC034 where there is none."""
        return audio_port(self.manifest)

    @cached_property
    def featured(self) -> Port | None:
        """The input that takes features of audio, where the manifest says which; None: another file."""
        return feature_port(self.manifest)

    @property
    def max_samples(self) -> int | None:
        """The longest recording that the file takes; None: any, or (of features) not known in samples."""
        if self.featured is not None:
            return None
        return longest_recording(self.manifest, self.port)

    @property
    def stepwise(self) -> bool:
        """Whether a call takes a fixed number of samples and leaves the rest to the file's own states."""
        m = self.manifest
        if self.featured is not None or m.streaming is not None or not m.states:
            return False
        return isinstance(self.port.shape[time_axis(self.port)], int)

    @property
    def streams(self) -> bool:
        """Whether `stream` works: in pieces no features are computed but by the file itself."""
        return self.featured is None and (self.manifest.streaming is not None or self.stepwise)

    @property
    def chunk_samples(self) -> int | None:
        """Samples of a step; None: the file takes whole utterances."""
        return int(self.port.shape[time_axis(self.port)]) if self.streams else None

    def check_audio(self) -> None:
        """Raise `UsageError` SC034 or SC110 where the file does not take recordings."""
        if self.featured is None:
            audio_port(self.manifest)

    def hear(self, samples: np.ndarray) -> Heard:
        """The result for a whole recording, float32[n] at `sample_rate`."""
        checked(samples)
        if (port := self.featured) is not None:
            return self.hear_arrays({port.name: features_laid_out(samples, self.manifest, port)})
        if self.streams:
            stream = self._stream
            stream.reset()
            first = stream.push(samples)
            return joined([h for h in (first, stream.flush()) if h is not None], stream.axes)
        padded, notes = self._fitted(samples)
        heard = self.hear_arrays({self.port.name: laid_out(padded, self.port)})
        heard.notes += notes
        return heard

    def stream(self) -> Stream:
        """A new stream of samples."""
        if self.featured is not None:
            raise UsageError(
                "SC050",
                f"{self.source.path} takes features: of recordings they are computed as a whole",
                hints=["compile it with --front-end, so that it takes audio chunk by chunk"],
            )
        if not self.streams:
            raise whole_only(self.source.path)
        return SampleStream(self)

    def _fitted(self, samples: np.ndarray) -> tuple[np.ndarray, list[Note]]:
        """A recording with silence behind where the file takes no less, and a note of that."""
        size = self.port.shape[time_axis(self.port)]
        wanted = size if isinstance(size, int) else taken(len(samples), self.manifest, size)
        if wanted is None or wanted < len(samples):
            hz = self.sample_rate
            raise UsageError(
                "SC112",
                f"a recording of {len(samples) / hz:.2f} s is too long: {self.source.path.name} takes "
                f"{self.max_samples / hz:.2f} s",
                hints=["cut it, or compile the model with --stream DURATION"],
            )
        if wanted == len(samples):
            return samples, []
        behind = wanted - len(samples)
        note = f"{behind} samples of silence behind: the file takes no recording of {len(samples)}"
        return np.pad(samples, (0, behind)), [Note("padded", note)]

    # -- arrays as they are --------------------------------------------------------------------------------------------
    def hear_arrays(self, arrays: Arrays) -> Heard:
        """The result for inputs by name, in the model's own layout (of a step file: of any length)."""
        if self.manifest.streaming is not None:
            stream = ChunkStream(self, self._constants(arrays))
            first = stream.push_arrays(self._timed(arrays))
            return joined([h for h in (first, stream.flush()) if h is not None], stream.axes)
        self.session.reset()
        outputs = self.session.run_named(dict(arrays))
        outputs = {p.name: outputs[p.name] for p in self.manifest.outputs}
        teller = self.teller()
        teller.add(outputs)
        teller.end()
        return Heard(teller.text, outputs, _now(teller.segments, True), alternatives=teller.alternatives)

    def stream_arrays(self, arrays: Arrays) -> ChunkStream:
        """A stream whose inputs without time are those of `arrays`. Raises `UsageError` SC050 for other files."""
        if self.manifest.streaming is None:
            raise whole_only(self.source.path)
        return ChunkStream(self, self._constants(arrays))

    def _timed(self, arrays: Arrays) -> list[np.ndarray]:
        return [arrays[p.name] for p in self.manifest.inputs if p.time is not None]

    def _constants(self, arrays: Arrays) -> dict[str, np.ndarray]:
        timed = {p.name for p in self.manifest.inputs if p.time is not None} | {CLOCK_INPUT}
        return {n: a for n, a in arrays.items() if n not in timed}

    @cached_property
    def _stream(self) -> SampleStream:
        return SampleStream(self)


class ChunkStream:
    """A step file fed with arrays: one an input along time, of any length."""

    def __init__(self, listener: SingleFile, constants: Arrays | None = None):
        self.listener, self.manifest = listener, listener.manifest
        batch = BatchSession(listener.session, constants)
        self.session, self.layout = batch.streams[0], batch.layout
        self.names = [p.name for p in self.manifest.outputs if not p.name.endswith(RANGE_SUFFIX)]
        self.axes = {t.name: t.axis for t in self.layout.outputs}
        hz = self.manifest.streaming["tick_hz"]
        self.hz = None if hz is None else float(hz)
        self.gathered = Gathered(listener, self.axes)
        self.pushed = 0

    def push_arrays(self, arrays: Sequence[np.ndarray]) -> Heard | None:
        """Take in frames; what is new, None where nothing is."""
        out = self.session.push(*arrays)
        self.pushed += arrays[0].shape[self.layout.inputs[0].axis]
        return self.gathered.heard(self.at) if self.gathered.add(self._named(out)) else None

    def flush(self) -> Heard:
        """The end: the final result."""
        self.gathered.add(self._named(self.session.flush()))
        return self.gathered.heard(self.at, final=True)

    def reset(self) -> None:
        """Start from the beginning."""
        self.session.reset()
        self.gathered, self.pushed = Gathered(self.listener, self.axes), 0

    @property
    def at(self) -> float | None:
        """Seconds pushed so far."""
        return None if self.hz is None else self.pushed / self.hz

    def _named(self, outputs: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
        return {n: a for n, a in zip(self.names, outputs) if a is not None}


class CallStream:
    """A file with states of its own, called with as many samples as it takes; the last ones with silence behind.

    An output without time gets an axis of frames in front, one a call.
    """

    def __init__(self, listener: SingleFile):
        self.listener, self.port = listener, listener.port
        self.block = int(self.port.shape[time_axis(self.port)])
        outputs = [p for p in listener.manifest.outputs if p.name not in {s.name for s in listener.manifest.states}]
        self.axes = {p.name: p.time["axis"] if p.time else 0 for p in outputs}
        self.bare = {p.name for p in outputs if not p.time}
        self.reset()

    def push_arrays(self, arrays: Sequence[np.ndarray]) -> Heard | None:
        """Take in samples, laid out; what is new, None where nothing is."""
        axis = time_axis(self.port)
        self.waiting = np.concatenate([self.waiting, arrays[0]], axis)
        self.pushed += arrays[0].shape[axis]
        news = False
        while self.waiting.shape[axis] >= self.block:
            chunk, self.waiting = np.split(self.waiting, [self.block], axis)
            news |= self.gathered.add(self._call(chunk))
        return self.gathered.heard(self.at) if news else None

    def flush(self) -> Heard:
        """The end: the final result."""
        if missing := -self.waiting.shape[time_axis(self.port)] % self.block:
            silence = laid_out(np.zeros(missing, np.float32), self.port)
            self.gathered.add(self._call(np.concatenate([self.waiting, silence], time_axis(self.port))))
        return self.gathered.heard(self.at, final=True)

    def reset(self) -> None:
        """Start from the beginning."""
        self.listener.session.reset()
        self.initial = {s.name: self.listener.session.state(s.name) for s in self.listener.manifest.states}
        self.gathered, self.pushed = Gathered(self.listener, self.axes), 0
        self.waiting = laid_out(np.zeros(0, np.float32), self.port)

    @property
    def at(self) -> float:
        """Seconds pushed so far."""
        return self.pushed / self.listener.sample_rate

    def _call(self, chunk: np.ndarray) -> dict[str, np.ndarray]:
        session = self.listener.session
        for name, value in self.initial.items():  # other streams may share the session
            session.set_state(name, value)
        out = session.run_named({self.port.name: np.ascontiguousarray(chunk)})
        self.initial = {name: session.state(name) for name in self.initial}
        return {n: out[n][None] if n in self.bare else out[n] for n in self.axes}


class SampleStream(Stream):
    """Samples float32[n] into either kind of stream."""

    def __init__(self, listener: SingleFile):
        self.port = listener.port
        self.inner = CallStream(listener) if listener.stepwise else ChunkStream(listener)
        self.axes = self.inner.axes

    def push(self, samples: np.ndarray) -> Heard | None:
        """Take in any number of samples."""
        return self.inner.push_arrays([laid_out(checked(samples), self.port)])

    def flush(self) -> Heard:
        """The end of the recording."""
        return self.inner.flush()

    def reset(self) -> None:
        """Start from the beginning."""
        self.inner.reset()


class Gathered:
    """The frames of outputs that came since the last result, and how many there were before."""

    def __init__(self, listener: SingleFile, axes: Mapping[str, int]):
        self.axes, self.teller = axes, listener.teller()
        self.seen: dict[str, int] = {}
        self.news: dict[str, list[np.ndarray]] = {}

    def add(self, outputs: Arrays) -> bool:
        """Take in outputs; whether there is something new to say."""
        real = {n: a for n, a in outputs.items() if n not in self.axes or a.shape[self.axes[n]]}
        for name, array in real.items():
            self.news[name] = [*(self.news.get(name, []) if name in self.axes else []), array]
        return self.teller.add(real) and bool(real)

    def heard(self, at: float | None, final: bool = False) -> Heard:
        """The state of things, with the frames since the result before."""
        outputs = {n: np.concatenate(a, self.axes[n]) if n in self.axes else a[-1] for n, a in self.news.items()}
        frames = {}
        for name in outputs.keys() & self.axes.keys():
            first = self.seen.get(name, 0)
            self.seen[name] = first + outputs[name].shape[self.axes[name]]
            frames[name] = (first, self.seen[name])
        self.news = {}
        if final:
            self.teller.end()
        segments, alternatives = _now(self.teller.segments, final), self.teller.alternatives
        return Heard(self.teller.text, outputs, segments, frames, at, final, alternatives=alternatives)


def _now(segments: list[Segment] | None, final: bool) -> list[Segment] | None:
    """Segments as they are now; none goes on after the end."""
    return None if segments is None else [replace(s, going=s.going and not final) for s in segments]

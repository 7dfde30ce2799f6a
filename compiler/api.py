"""The Python face: `speechc.compile` makes an `Artifact`, `speechc.load` opens one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import SpeechcError, UsageError
from ..lowering.manifest import Manifest
from ..lowering.stream_session import BatchSession, ManyStreams, StreamSession
from ..lowering.target import Session
from . import driver
from .assembly.assemble import Assembly
from .assembly.build import build as build_folder
from .assembly.opening import read_model
from .listen import BUNDLE, Listener, open_listener
from .listen.source import read_source
from .settings import for_targets
from .streaming import Streaming


class Artifact:
    """A compiled model: `path` and `manifest` of the file, `report` of the compilation, `run` to use it."""

    def __init__(self, path: Path, manifest: Manifest, report: dict[str, Any] | None = None):
        self.path, self.manifest, self.report = path, manifest, report
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The loaded file, opened at first use."""
        if self._session is None:
            self._session = driver.open_artefact(self.path)
        return self._session

    def run(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The outputs, in order, for inputs in order and in the model's own layout.

        States, where the model has any, go from one call to the next; `session.reset()` starts over.
        """
        return self.session.run(*(np.ascontiguousarray(a) for a in arrays))

    def stream(
        self, streams: int | None = None, /, **constants: np.ndarray
    ) -> StreamSession | BatchSession | ManyStreams:
        """A new session that takes chunks: `push(chunk)`, `flush()`, `reset()`, the first two giving tuples of arrays.

        With `streams`, or for a file with a batch, as many independent streams: `session.streams[i]` is one, and
        `session.step({i: (chunk,), …})` feeds several at once (together in one step, where the file has a batch).
        `constants`: the inputs that do not follow time, by name, given once. Raises `UsageError` SC050 for a file that
        takes whole utterances, SC213 for less than one stream, or another number than the batch of the file.
        """
        if streams is not None and streams < 1:
            raise UsageError("SC213", f"{streams} streams: 1 or more")
        batch = BatchSession(self.session, constants)
        if streams in (None, batch.batch):
            return batch.streams[0] if streams is None and batch.batch == 1 else batch
        if batch.batch != 1:
            raise UsageError("SC213", f"{self.path} is for {batch.batch} streams, not {streams}")
        return ManyStreams(self.session, streams, constants)

    def __repr__(self) -> str:
        return f"Artifact({str(self.path)!r}, {self.manifest.target}, {self.manifest.precision})"


class Folder:
    """A compiled model of several parts: `path` of the folder, `parts` by name, `report`, `listen` to use it."""

    def __init__(self, path: Path, report: dict[str, Any] | None = None):
        self.path, self.source, self.report = path, read_source(path), report
        self.parts = {n: Artifact(f, self.source.manifests[n]) for n, f in self.source.files.items()}

    def listen(self, threads: int | None = None, **decoding: Any) -> Listener:
        """What turns audio into text with it; `decoding` are the options of its kind, such as `language="en"`."""
        return open_listener(self.path, threads, **decoding)

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r}, {self.source.kind}: {', '.join(self.parts)})"


def compile(
    model: Any,
    inputs: Any = None,
    time_axis: int | Mapping[str, int] = 1,
    target: str = "onnx",
    precision: str | None = None,
    calibration: Any = None,
    output: str | Path | None = None,
    *,
    name: str | None = None,
    weights: str | Path | None = None,
    trust_pickle: bool = False,
    min_snr: float | None = None,
    options: Mapping[str, object] | None = None,
    integer_ports: bool = False,
    sample_rate: int | None = None,
    frame_shift: str | None = None,
    stream: str | int | None = None,
    attention: str | None = None,
    left_context: str | None = None,
    conv: str | None = None,
    bidirectional: str | None = None,
    normalise: str | None = None,
    max_latency: str | None = None,
    batch: int | None = None,
    own_inputs: bool = False,
    cache: str = "speed",
    ctc: int | None = None,
    front_end: str | None = None,
    features: str | None = None,
    detect: Mapping[str, Any] | None = None,
) -> Artifact | Folder:
    """Compile a PyTorch model to a file for `target`, and prove that the file does what the model did.

    `model`: an `nn.Module`, an `ExportedProgram`, the path of an archive or of a transformers directory, `Parts`, or
    `"package.module:factory"`. One of several parts (Whisper, a transducer) becomes a `Folder` of files. `inputs`:
    sample arrays (by name or in order), or texts such as `"audio=f32[1,T]"`; not needed where the archive has its own.
    `time_axis`: the axis of the input that is time; a dict by input name for several. `precision`: "float32",
    "float16", "int8" or what else the target has (by default what suits it: float16 for Core ML, else float32).
    `calibration`: feeds, or a folder of recordings. `options` are the target's own (`speechc options TARGET`).
    `integer_ports`: the file takes and gives int8 (with calibration). `output`: a file or folder (the current one by
    default).

    `stream="320ms"` (or `"12 frames"`) makes a file that takes so much a step and keeps its states: `Artifact.stream`
    runs it. `attention`, `left_context`, `conv`, `bidirectional` and `normalise` change the model so that it can
    stream, as the flags of the command line do, and `Artifact.report["rewrite"]` says what that loses; `max_latency`
    refuses more than that; `batch` streams go in one step (with `own_inputs`, inputs without time have a row for
    each); `cache` ("speed", "memory") is what attention keeps.
    `sample_rate` in Hz (raw audio) or `frame_shift` (`"10ms"`, features) are for models that do not say theirs.

    `ctc=0` adds an output `tokens`, i32[batch, frames]: the greedy CTC decoding of the model's log-probabilities, where
    the blank is class 0. It is -1 at frames that add nothing to the text.

    `front_end="whisper"` (a specification as `speechc front-ends` lists them) computes a model's features inside the
    file, which then takes audio f32[N, samples]. `features`, likewise, says which features the model takes: the file
    takes them still, and its manifest says which they are.

    `detect={"threshold": 0.6, "labels": ["voice"]}` says in the manifest how the model's scores are read as detections:
    see `speechc.compiler.spans`.

    Raises `SpeechcError` with a code.
    """
    subject, settings = _prepared(**locals())
    if isinstance(subject, Assembly):
        made = build_folder(subject, settings)
        return Folder(made.folder, made.as_dict())
    return _artifact(driver.build(subject, settings))


def compile_all(
    model: Any,
    inputs: Any = None,
    time_axis: int | Mapping[str, int] = 1,
    *,
    targets: Iterable[str] | None = None,
    **more: Any,
) -> dict[str, Artifact]:
    """Compile a model for several targets (all that there are, by default): files by target, in the folder `output`.

    `more` is what `compile` takes as well; `options` may be those of any of the targets. Passes that all targets need
    run once. Raises the first `SpeechcError` of a target, after the others' files are written.
    """
    given = signature(compile).bind(model, inputs, time_axis, **more)
    given.apply_defaults()
    subject, settings = _prepared(**given.arguments)
    if isinstance(subject, Assembly):
        raise UsageError("SC058", "a model of several parts is compiled for one target at a time")
    made = driver.build_all(subject, for_targets(settings, targets))
    for found in made:
        if isinstance(found, SpeechcError):
            raise found
    return {report.target: _artifact(report) for report in made}


def _prepared(*, model, inputs, time_axis, weights, trust_pickle, output, options, **given):
    """What the driver wants, from the arguments of `compile`."""
    subject = read_model(model, inputs, time_axis, Path(weights) if weights else None, trust_pickle)
    streaming = Streaming(**{f.name: given.pop(f.name) for f in fields(Streaming)})
    output = Path(output) if output is not None else None
    return subject, driver.Settings(**given, output=output, options=dict(options or {}), streaming=streaming)


def _artifact(report: driver.Report) -> Artifact:
    return Artifact(report.artefact, driver.manifest_of(report.artefact), report.as_dict())


def load(path: str | Path) -> Artifact | Folder:
    """Open a compiled file, its manifest beside it, or the folder of a model of several parts."""
    path = Path(path)
    if (path / BUNDLE).is_file():
        return Folder(path)
    return Artifact(path, driver.manifest_of(path))

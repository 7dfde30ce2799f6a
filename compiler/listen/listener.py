"""The interface of a listener, what it hears, and the registry of kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from ...ir.errors import UsageError
from ...lowering.target import Session
from ..decode.result import Alternative
from ..recordings import Note
from .source import Source

KINDS: dict[str, type[Listener]] = {}  # by kind; the first that fits a file opens it, where none does: "outputs"


@dataclass
class Segment:
    """A detection: what (`label`) from when to when (seconds), its highest score, and whether it goes on.

    Of a text (in a cascade) there is no score.
    """

    start: float
    end: float
    label: str
    score: float | None
    going: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        more = {"going": True} if self.going else {}
        return {"start": self.start, "end": self.end, "label": self.label, "score": self.score} | more


@dataclass
class Heard:
    """What a recording, or a stream so far, says.

    `text` is all of it so far (None: this kind has no text), `segments` all detections so far (None: no detections).
    `outputs` are arrays by name: all of them for a recording; those of a stream have the frames that are new since the
    result before, `frames` says which (first, end). `at`: seconds of audio heard so far (None: not known). `notes`:
    what the caller should know, such as silence that was put behind a recording shorter than the file takes.
    `alternatives`: what a search found, the best first, with scores and times (None: there was no search).
    `usage`: of a cascade, in the end, what each stage took.
    """

    text: str | None
    outputs: dict[str, np.ndarray]
    segments: list[Segment] | None = None
    frames: dict[str, tuple[int, int]] = field(default_factory=dict)
    at: float | None = None
    final: bool = True
    notes: list[Note] = field(default_factory=list)
    alternatives: list[Alternative] | None = None
    usage: dict[str, Any] | None = None


class Stream(ABC):
    """One recording in pieces: `push` them, `flush` at the end, `reset` before the next recording.

    `axes`: the axis of frames of every output that has one.
    """

    axes: Mapping[str, int] = {}

    @abstractmethod
    def push(self, samples: np.ndarray) -> Heard | None:
        """Take in any number of samples, float32[n]; what is new since the last result, None where nothing is.

        Raises `UsageError` as `Listener.hear`.
        """

    @abstractmethod
    def flush(self) -> Heard:
        """The end of the recording: the final result."""

    @abstractmethod
    def reset(self) -> None:
        """Start from the beginning."""


class Listener(ABC):
    """Turns audio into results. Subclasses are registered by kind: `@listens("ctc")`.

    `sample_rate` is in Hz (None: the file does not say). `files` are all paths that it needs, `sessions` the loaded
    files by graph (a file alone is "main"). `max_samples`: the longest recording that it takes (None: any).
    """

    kind: ClassVar[str] = ""
    options: ClassVar[tuple[str, ...]] = ()  # names of the `decoding` options that this kind takes

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        check_options(self, decoding)
        self.source, self.threads, self.decoding = source, threads, decoding
        self.files: list[Path] = list(source.files.values())
        self.sessions: dict[str, Session] = {}

    @classmethod
    def fits(cls, source: Source, decoding: Mapping[str, Any]) -> bool:
        """Whether this kind opens what does not name its kind itself."""
        return False

    @property
    @abstractmethod
    def sample_rate(self) -> int | None:
        """Of the audio that it takes, Hz."""

    @property
    def max_samples(self) -> int | None:
        """The longest recording that it takes."""
        return None

    @property
    def streams(self) -> bool:
        """Whether `stream` works."""
        return False

    @property
    def chunk_samples(self) -> int | None:
        """Samples of a step, where the files take steps of that many; None: any number."""
        return None

    def check_audio(self) -> None:
        """Raise `UsageError` SC034 (SC110 for several inputs) where recordings cannot be heard at all."""
        if self.sample_rate is None:
            raise UsageError(
                "SC034", "the file does not say its sample rate", hints=["compile it with --sample-rate HZ"]
            )

    @abstractmethod
    def hear(self, samples: np.ndarray) -> Heard:
        """The result for a whole recording, float32[n] in [-1, 1] at `sample_rate`.

        Raises `UsageError` SC112 for one that is too long, SC032 for one with NaN, SC034 where the files do not take
        audio, SC091 where text or detections would be read from NaN.
        """

    def hear_many(self, recordings: Sequence[np.ndarray]) -> list[Heard]:
        """Results for several recordings, in order; one by one, where a kind has no better way."""
        return [self.hear(samples) for samples in recordings]

    def stream(self) -> Stream:
        """A new stream. Raises `UsageError` SC050 where the files take whole utterances."""
        raise whole_only(self.source.path, ())


def whole_only(path: Path, hints: Sequence[str] = ("compile it with --stream DURATION",)) -> UsageError:
    """The error of a file that cannot be fed in pieces."""
    return UsageError("SC050", f"{path} takes whole utterances, not chunks", hints=list(hints))


def checked(samples: np.ndarray) -> np.ndarray:
    """The samples. Raises `UsageError` SC032 for NaN and infinities, which models may turn into any text."""
    if not np.isfinite(samples).all():
        raise UsageError("SC032", "the audio holds NaN or infinite samples")
    return samples


def check_options(listener: Listener, decoding: Mapping[str, Any]) -> None:
    """Raise `UsageError` SC053 for a decoding option that a kind does not have."""
    if unknown := sorted(set(decoding) - set(listener.options)):
        has = ", ".join(listener.options) or "none"
        raise UsageError(
            "SC053", f"there is no decoding option {', '.join(unknown)} for {listener.kind} models (they have {has})"
        )


L = TypeVar("L", bound=type[Listener])


def listens(kind: str) -> Callable[[L], L]:
    """Register a listener for a kind of model. Raises `TypeError` for a kind that is taken."""

    def add(cls: L) -> L:
        if kind in KINDS:
            raise TypeError(f"two listeners of kind {kind}")
        cls.kind = kind
        KINDS[kind] = cls
        return cls

    return add


def joined(parts: Sequence[Heard], axes: Mapping[str, int]) -> Heard:
    """One result out of all results of one stream, the final one last."""
    last = parts[-1]
    names = dict.fromkeys(n for part in parts for n in part.outputs)
    found = {n: [p.outputs[n] for p in parts if n in p.outputs] for n in names}
    outputs = {n: np.concatenate(a, axes[n]) if n in axes else a[-1] for n, a in found.items()}
    frames = {n: (0, a.shape[axes[n]]) for n, a in outputs.items() if n in axes}
    notes = [n for p in parts for n in p.notes]
    return Heard(last.text, outputs, last.segments, frames, last.at, True, notes, last.alternatives, last.usage)

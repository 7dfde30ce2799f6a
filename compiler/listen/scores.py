"""Files whose output scores labels (voice, keywords, sounds): segments above a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ...ir.errors import UsageError
from ...lowering.manifest import Port
from ..spans import OPTIONS, Rule, Spans
from .listener import Heard, Segment, Stream, listens
from .single import Arrays, SingleFile, Teller, refuse_nan
from .source import Source


@listens("scores")
class Scores(SingleFile):
    """Detections: frames of a label at or above `threshold` (0.5), joined to segments as a `Rule` says.

    `labels` name the columns of the output (by default "0", "1", ...); the manifest's `meta["detect"]` may say all
    options, and those of the caller go first. An output without time is one score for the whole recording.
    """

    options = OPTIONS

    @classmethod
    def fits(cls, source: Source, decoding: Mapping[str, Any]) -> bool:
        """Whether the caller or the manifest says that there are scores."""
        asked = set(OPTIONS) & decoding.keys()
        return source.manifest is not None and bool(asked or source.manifest.meta.get("detect"))

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        super().__init__(source, threads, **decoding)
        about = {**self.manifest.meta.get("detect", {}), **decoding}
        self.rule = Rule.of(about)
        self.output = scoring(self.manifest.outputs, about.get("output"))
        labels = about.get("labels") or []
        self.labels = labels.split("/") if isinstance(labels, str) else list(labels)

    def teller(self) -> Teller:
        """Follows the scores of one recording."""
        return Detected(self)

    def hear(self, samples: np.ndarray) -> Heard:
        """The detections of a whole recording; none ends after it."""
        return trimmed(super().hear(samples), len(samples) / self.sample_rate)

    def stream(self) -> Stream:
        """A new stream of samples; in the end no detection ends after it."""
        return Trimmed(super().stream())

    @property
    def frame_seconds(self) -> float | None:
        """Seconds of audio that a frame of the output stands for; None: one score for the whole recording."""
        if self.output.time is not None:
            return float(1 / Fraction(self.output.time["rate"]) / self.tick_hz)
        if self.stepwise:
            return int(self.port.shape[self.port.time["axis"] if self.port.time else -1]) / self.sample_rate
        return None

    @property
    def tick_hz(self) -> Fraction:
        """Ticks of the clock a second: of a step file as its manifest says, else frames of features, else samples."""
        hz = (self.manifest.streaming or {}).get("tick_hz") or self.sample_rate
        if self.manifest.streaming is None and self.featured is not None:
            return Fraction(hz, self.manifest.features["frame_shift"])
        if hz is None:
            raise UsageError("SC034", "the file does not say its sample rate: its frames have no times")
        return Fraction(hz)


class Trimmed(Stream):
    """A stream whose last result has no detection that ends after the audio."""

    def __init__(self, inner: Stream):
        self.inner, self.axes = inner, inner.axes

    def push(self, samples: np.ndarray) -> Heard | None:
        """Take in any number of samples."""
        return self.inner.push(samples)

    def flush(self) -> Heard:
        """The end of the recording."""
        heard = self.inner.flush()
        return heard if heard.at is None else trimmed(heard, heard.at)

    def reset(self) -> None:
        """Start from the beginning."""
        self.inner.reset()


def trimmed(heard: Heard, seconds: float) -> Heard:
    """A result whose detections end by then."""
    for segment in heard.segments or []:
        segment.end = min(segment.end, seconds)
    return heard


def scoring(ports: Sequence[Port], name: str | None) -> Port:
    """The output called `name`, or the first of real numbers. Raises `UsageError` SC055 where there is no such."""
    for p in ports:
        if p.name == name if name is not None else p.dtype.startswith("f") or p.quant is not None:
            return p
    raise UsageError(
        "SC055", f"there is no output {name or 'of scores'}; the file has {', '.join(p.name for p in ports)}"
    )


class Detected(Teller):
    """Detections so far, by label."""

    def __init__(self, file: Scores):
        self.file = file
        self.columns: dict[str, Spans] = {}

    def add(self, outputs: Arrays) -> bool:
        """Take in frames; whether a detection began or ended."""
        if self.file.output.name not in outputs:
            return False
        array = refuse_nan(outputs, self.file.output.name)
        port, seconds = self.file.output, self.file.frame_seconds
        axis = port.time["axis"] if port.time else 0
        if port.quant is not None:
            array = (array.astype(np.float32) - port.quant[1]) * np.float32(port.quant[0])
        rows = np.moveaxis(array, axis, 0) if seconds is not None else array[None]
        rows = rows.reshape(len(rows), -1).astype(np.float64)
        labels = self.file.labels or [str(i) for i in range(rows.shape[1])]
        if rows.shape[1] != len(labels):
            raise UsageError("SC055", f"{len(labels)} labels for {rows.shape[1]} scores of {port.name}")
        if not self.columns:
            self.columns = {label: Spans(self.file.rule, seconds) for label in labels}
        return any([c.add(score) for row in rows.tolist() for c, score in zip(self.columns.values(), row)])

    def end(self) -> None:
        """The recording ends here."""
        for column in self.columns.values():
            column.close()

    @property
    def segments(self) -> list[Segment]:
        """By the time at which they begin."""
        told = [(label, s) for label, column in self.columns.items() for s in column.told()]
        found = [Segment(s.start, s.end, label, s.score, s.going) for label, s in told]
        return sorted(found, key=lambda s: s.start)

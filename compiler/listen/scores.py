"""Files whose output scores labels (voice, keywords, sounds): segments above a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ...ir.errors import UsageError
from ...lowering.manifest import Port
from .listener import Heard, Segment, listens
from .single import Arrays, SingleFile, Teller
from .source import Source

THRESHOLD = 0.5


@listens("scores")
class Scores(SingleFile):
    """Detections: frames of a label at or above `threshold` (0.5), joined to segments.

    `labels` name the columns of the output (by default "0", "1", ...); the manifest's `meta["detect"]` may say
    both, and the `output`. An output without time is one score for the whole recording.
    """

    options = ("threshold", "labels", "output")

    @classmethod
    def fits(cls, source: Source, decoding: Mapping[str, Any]) -> bool:
        """Whether the caller or the manifest says that there are scores."""
        asked = {"threshold", "labels", "output"} & decoding.keys()
        return source.manifest is not None and bool(asked or source.manifest.meta.get("detect"))

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        super().__init__(source, threads, **decoding)
        about = {**self.manifest.meta.get("detect", {}), **decoding}
        self.threshold = float(about.get("threshold", THRESHOLD))
        self.output = scoring(self.manifest.outputs, about.get("output"))
        self.labels = list(about.get("labels") or [])

    def teller(self) -> Teller:
        """Follows the scores of one recording."""
        return Detected(self)

    def hear(self, samples: np.ndarray) -> Heard:
        """The detections of a whole recording; none ends after it."""
        heard = super().hear(samples)
        for segment in heard.segments:
            segment.end = min(segment.end, len(samples) / self.sample_rate)
        return heard

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


def scoring(ports: Sequence[Port], name: str | None) -> Port:
    """The output called `name`, or the first of real numbers. Raises `UsageError` SC055 where there is no such."""
    for p in ports:
        if p.name == name if name is not None else p.dtype.startswith("f") or p.quant is not None:
            return p
    raise UsageError(
        "SC055", f"there is no output {name or 'of scores'}; the file has {', '.join(p.name for p in ports)}"
    )


class Detected(Teller):
    """Segments so far: runs of frames at or above the threshold, by label."""

    def __init__(self, file: Scores):
        self.file, self.segments, self.frames = file, [], 0
        self.open: dict[int, Segment] = {}

    def add(self, outputs: Arrays) -> bool:
        """Take in frames; whether a segment began or ended."""
        if (array := outputs.get(self.file.output.name)) is None:
            return False
        port, seconds = self.file.output, self.file.frame_seconds
        axis = port.time["axis"] if port.time else 0
        if port.quant is not None:
            array = (array.astype(np.float32) - port.quant[1]) * np.float32(port.quant[0])
        rows = np.moveaxis(array, axis, 0) if seconds is not None else array[None]
        rows = rows.reshape(len(rows), -1).astype(np.float64)
        if self.file.labels and rows.shape[1] != len(self.file.labels):
            raise UsageError("SC055", f"{len(self.file.labels)} labels for {rows.shape[1]} scores of {port.name}")
        return self._follow(rows, seconds)

    def _follow(self, rows: np.ndarray, seconds: float | None) -> bool:
        news = False
        for row in rows:
            start, end = (0.0, np.inf) if seconds is None else (self.frames * seconds, (self.frames + 1) * seconds)
            self.frames += 1
            over = set(np.flatnonzero(row >= self.file.threshold).tolist())
            for gone in self.open.keys() - over:
                self.open.pop(gone).going, news = False, True
            for column in sorted(over):
                score = float(row[column])
                if (segment := self.open.get(column)) is None:
                    label = self.file.labels[column] if self.file.labels else str(column)
                    self.open[column] = segment = Segment(start, end, label, score, True)
                    self.segments.append(segment)
                    news = True
                segment.end, segment.score = end, max(segment.score, score)
        return news

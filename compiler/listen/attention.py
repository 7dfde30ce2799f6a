"""An encoder and its attention decoder as a listener: whole recordings in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...ir.errors import UsageError
from ...lowering.stream_session import BatchSession
from ...lowering.streaming import batch_axis, layout_of
from ...lowering.target import Session
from .. import driver
from ..assembly.text import text_of
from ..decode import whisper  # noqa: F401 (a family)
from ..decode.attention import Hypothesis, Steps, run, search
from ..decode.number import number
from ..decode.task import FAMILIES, Task
from ..recordings import Note
from .listener import Heard, Listener, Segment, checked, listens
from .reading import Reading
from .source import Source

NUMBERS = {"beam": int, "most": int, "penalty": float}  # of its options


class FileSteps(Steps):
    """The decoder of a folder: a step file over tokens, its streams the hypotheses, `each` of one recording.

    `memories`: what the encoder gave for each recording, by name. Streams that are left over read the last one too.
    """

    def __init__(self, session: Session, memories: Sequence[Mapping[str, np.ndarray]], each: int):
        self.rows = layout_of(session.manifest).batch
        owner = [min(row // each, len(memories) - 1) for row in range(self.rows)]
        memory = {}
        for port in (p for p in session.manifest.inputs if p.name in memories[0]):
            several = owner if batch_axis(port, self.rows) == 0 else owner[:1]
            first, *others = (memories[i][port.name] for i in several)
            memory[port.name] = np.concatenate([first, *others]) if others else first
        self.batch = BatchSession(session, memory)

    def next(self, tokens: Sequence[int]) -> np.ndarray:
        out = self.batch.step({i: (np.array([[t]], np.int64),) for i, t in enumerate(tokens)})
        return np.stack([out[i][0].reshape(-1) for i in range(self.rows)])

    def reorder(self, rows: Sequence[int]) -> None:
        self.batch.reorder(rows)


@listens("attention")
class AttentionListener(Listener):
    """The decoder file has so many streams (`--batch` at compile time): hypotheses of one recording, or of several.

    Several need a decoder that reads a row of what the encoder gave in each stream (`--own-inputs`).
    Options: `beam` (hypotheses a recording; where not given, all streams if they read the same, else 1: greedy),
    `penalty` (weight of length in beam search), `most` (tokens), and those of the family's task: for Whisper `language`
    (a code; found out by the model where not given), `task`, `timestamps`, `previous` (tokens said before).
    """

    options = ("beam", "penalty", "most", "language", "task", "timestamps", "previous")

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        super().__init__(source, threads, **decoding)
        self.about = source.about
        self.sessions = {name: driver.open_artefact(path, threads) for name, path in source.files.items()}
        self.tokens: list[str] = self.about["tokens"]
        asked = {k: v for k, v in decoding.items() if k not in ("beam", "penalty", "most")}
        self.task: Task = FAMILIES[self.about["decoding"]["family"]](self.about["decoding"], self.tokens, **asked)
        streams = layout_of(self.sessions["decoder"].manifest).batch
        ports = {p.name: p for p in self.sessions["decoder"].manifest.inputs}
        memory = [ports[p.name] for p in self.sessions["encoder"].manifest.outputs if p.name in ports]
        own = streams > 1 and all(batch_axis(p, streams) == 0 for p in memory)
        given = {n: number(n, decoding[n], kind) for n, kind in NUMBERS.items() if n in decoding}
        self.limit, self.penalty = given.get("most"), given.get("penalty", 1.0)
        self.beam: int = given.get("beam", 1 if own else streams)
        if min(self.beam, 1 if self.limit is None else self.limit) < 1:
            raise UsageError("SC090", "beam and most are 1 or more")
        if self.beam > streams:
            said = f"the decoder has {streams} streams for hypotheses, not {self.beam}"
            raise UsageError("SC053", said, hints=[f"compile it with --batch {self.beam}"])
        self.at_once = streams // self.beam if own else 1

    @property
    def sample_rate(self) -> int | None:
        """Of the audio that it takes, Hz."""
        return self.about["sample_rate"]

    def check_audio(self) -> None:
        """As `Listener.check_audio`; SC034 too where the encoder takes features."""
        super().check_audio()
        if self.window is None:
            raise UsageError("SC034", "the encoder takes features, not audio", hints=["compile it with its front end"])

    @property
    def window(self) -> int | None:
        """Samples that the encoder takes, to which shorter recordings are filled with silence."""
        port = self.sessions["encoder"].manifest.inputs[0]
        return port.shape[-1] if len(port.shape) == 2 and isinstance(port.shape[-1], int) else None

    @property
    def max_samples(self) -> int | None:
        """The longest recording: the window's, where the decoder tells no times to go on from."""
        return self.window if self.task.timed() is None else None

    def encoded(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """What the decoder reads of a window of audio: the encoder's outputs by name."""
        encoder = self.sessions["encoder"]
        audio = np.zeros((1, self.window), np.float32)
        audio[0, : len(samples)] = samples
        return encoder.run_named({encoder.manifest.inputs[0].name: audio})

    def hear(self, samples: np.ndarray) -> Heard:
        """The text of a recording, with its segments where timestamps were asked for."""
        return self.hear_many([samples])[0]

    def hear_many(self, recordings: Sequence[np.ndarray]) -> list[Heard]:
        """Results for several recordings, in order; as many at once as the streams of the decoder are for."""
        self.check_audio()
        readings = [Reading(checked(samples), self.window, self.sample_rate, self.task) for samples in recordings]
        while waiting := [r for r in readings if not r.done][: self.at_once]:
            for reading, best in zip(waiting, self._decoded(waiting)):
                reading.take(best)
        return [self._heard(r) for r in readings]

    def _decoded(self, readings: Sequence[Reading]) -> list[Hypothesis]:
        """What the decoder makes of the next window of each."""
        steps = FileSteps(self.sessions["decoder"], [self.encoded(r.audio) for r in readings], self.beam)
        if unsettled := [i for i, r in enumerate(readings) if r.task.probe]:
            for token in readings[unsettled[0]].task.probe:
                scores = steps.next([token] * steps.rows)
            for i in unsettled:
                readings[i].task = readings[i].task.settled(scores[i * self.beam])
            steps.batch.reset()
        searches = []
        for task in (r.task for r in readings):
            most = task.most if self.limit is None else min(self.limit, task.most)
            searches.append(search(self.beam, task.prompt, task.end, most, task.rules, self.penalty))
        return [best for best, *_ in run(steps, searches)]

    def _heard(self, reading: Reading) -> Heard:
        text = lambda tokens: text_of(tokens, self.tokens, self.about["spelling"])
        segments = None
        if self.task.spans([]) is not None:
            segments = [Segment(s.start, s.end, text(s.tokens), s.score) for s in reading.spoken]
        notes = [Note("unfinished", f"stopped at {n} tokens, without an end") for n in reading.unfinished]
        tokens = {"tokens": np.array([reading.words], np.int64)}
        return Heard(text(reading.words), tokens, segments, at=reading.seconds, notes=notes)

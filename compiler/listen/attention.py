"""An encoder and its attention decoder as a listener: whole recordings in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...ir.errors import UsageError
from ...lowering.stream_session import BatchSession
from ...lowering.target import Session
from .. import driver
from ..assembly.text import text_of
from ..decode import whisper  # noqa: F401 (a family)
from ..decode.attention import Hypothesis, Steps, beam, greedy
from ..decode.task import FAMILIES, Task
from ..recordings import Note
from .listener import Heard, Listener, Segment, listens
from .source import Source


class FileSteps(Steps):
    """The decoder of a folder: a step file over tokens, its streams the hypotheses."""

    def __init__(self, session: Session, memory: Mapping[str, np.ndarray]):
        ports = {p.name: p for p in session.manifest.inputs}
        constants = {n: _rows(a, ports[n].shape[0]) for n, a in memory.items() if n in ports}
        self.batch = BatchSession(session, constants)
        self.rows = self.batch.batch

    def next(self, tokens: Sequence[int]) -> np.ndarray:
        out = self.batch.step({i: (np.array([[t]], np.int64),) for i, t in enumerate(tokens)})
        return np.stack([out[i][0].reshape(-1) for i in range(self.rows)])

    def reorder(self, rows: Sequence[int]) -> None:
        self.batch.reorder(rows)


def _rows(array: np.ndarray, rows: int) -> np.ndarray:
    return array if array.shape[0] == rows else np.repeat(array, rows, 0)


@listens("attention")
class AttentionListener(Listener):
    """Hypotheses are as many as the decoder file has streams (`--batch` at compile time): 1 is greedy.

    Options: `penalty` (weight of length in beam search), `most` (tokens), and those of the family's task: for Whisper
    `language` (a code; found out by the model where not given), `task`, `timestamps`, `previous` (tokens said before).
    """

    options = ("penalty", "most", "language", "task", "timestamps", "previous")

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        super().__init__(source, threads, **decoding)
        self.about = source.about
        self.sessions = {name: driver.open_artefact(path, threads) for name, path in source.files.items()}
        self.tokens: list[str] = self.about["tokens"]
        asked = {k: v for k, v in decoding.items() if k not in ("penalty", "most")}
        self.task: Task = FAMILIES[self.about["decoding"]["family"]](self.about["decoding"], self.tokens, **asked)

    @property
    def sample_rate(self) -> int | None:
        """Of the audio that it takes, Hz."""
        return self.about["sample_rate"]

    @property
    def max_samples(self) -> int | None:
        """The length of recordings, to which shorter ones are filled with silence."""
        port = self.sessions["encoder"].manifest.inputs[0]
        return port.shape[-1] if len(port.shape) == 2 and isinstance(port.shape[-1], int) else None

    def encoded(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """What the decoder reads of a recording: the encoder's outputs by name."""
        encoder, size = self.sessions["encoder"], self.max_samples
        if size is None:
            raise UsageError("SC034", "the encoder takes features, not audio", hints=["compile it with its front end"])
        if len(samples) > size:
            raise UsageError("SC112", f"the recording has {len(samples)} samples; the model takes {size} at most")
        audio = np.zeros((1, size), np.float32)
        audio[0, : len(samples)] = samples
        return encoder.run_named({encoder.manifest.inputs[0].name: audio})

    def hear(self, samples: np.ndarray) -> Heard:
        """The text of a recording, with its segments where timestamps were asked for."""
        return self.decoded(self.encoded(samples), len(samples))

    def decoded(self, memory: Mapping[str, np.ndarray], count: int) -> Heard:
        """The text of what the encoder gave for `count` samples."""
        steps = FileSteps(self.sessions["decoder"], memory)
        task = self.task.settled(steps)
        steps.batch.reset()
        most = min(self.decoding.get("most") or task.most, task.most)
        if steps.rows == 1:
            (best,) = greedy(steps, task.prompt, task.end, most, task.rules)
        else:
            best = beam(steps, task.prompt, task.end, most, task.rules, self.decoding.get("penalty", 1.0))[0]
        return self._heard(task, best, count)

    def _heard(self, task: Task, best: Hypothesis, count: int) -> Heard:
        text = lambda tokens: text_of(tokens, self.tokens, self.about["spelling"])
        words, spans, end = task.words(best.tokens), task.spans(best.tokens), count / self.sample_rate
        segments = spans and [
            Segment(a, end if b is None else min(b, end), text(w), float(np.exp(np.mean(best.each))))
            for a, b, w in spans
        ]
        stopped = Note("unfinished", f"stopped at {len(best.tokens)} tokens, without an end")
        notes = [] if best.ended else [stopped]
        return Heard(text(words), {"tokens": np.array([words], np.int64)}, segments, at=end, notes=notes)

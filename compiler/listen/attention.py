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
from ..decode.attention import Hypothesis, Steps, beam, greedy
from ..decode.whisper import Told
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
    """Whisper's family. Hypotheses are as many as the decoder file has streams (`--batch` at compile time).

    Options: `language` (a code; found out by the model where not given), `task` (transcribe, translate), `timestamps`,
    `previous` (tokens said before), `penalty` (weight of length in beam search), `most` (tokens).
    """

    options = ("language", "task", "timestamps", "previous", "penalty", "most")

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        super().__init__(source, threads, **decoding)
        self.about = source.about
        self.sessions = {name: driver.open_artefact(path, threads) for name, path in source.files.items()}
        self.tokens: list[str] = self.about["tokens"]
        more = {k: v for k, v in decoding.items() if k in ("task", "timestamps", "previous")}
        self.told = Told(self.about["decoding"], self.tokens, decoding.get("language"), **more)

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
        steps, told = FileSteps(self.sessions["decoder"], memory), self.told
        if told.language is None:
            told = self._in_its_language(steps, told)
        most = min(self.decoding.get("most") or told.decoding["most"], told.decoding["most"] - len(told.prompt))
        if steps.rows == 1:
            (best,) = greedy(steps, told.prompt, told.end, most, told.rules)
        else:
            best = beam(steps, told.prompt, told.end, most, told.rules, self.decoding.get("penalty", 1.0))[0]
        return self._heard(told, best, count)

    def _in_its_language(self, steps: FileSteps, told: Told) -> Told:
        """The task with the language that the model finds the likeliest after its start (section 2.3 of the paper)."""
        scores = steps.next([told.special["start"]] * steps.rows)[0]
        steps.batch.reset()
        names = list(told.languages)
        likeliest = names[int(scores[[told.languages[n] for n in names]].argmax())]
        more = {"task": told.task, "timestamps": told.timestamps, "previous": told.previous}
        return Told(told.decoding, told.tokens, likeliest, **more)

    def _heard(self, told: Told, best: Hypothesis, count: int) -> Heard:
        text = lambda tokens: text_of(tokens, self.tokens, self.about["spelling"])
        words = [t for t in best.tokens if t < told.end]
        segments = None
        if told.timestamps:
            end = count / self.sample_rate
            segments = [
                Segment(a, end if b is None else min(b, end), text(w), float(np.mean(best.each)))
                for a, b, w in told.segments(best.tokens)
            ]
        notes = [] if best.ended else [Note("stopped", f"after {len(best.tokens)} tokens: the decoder's positions end")]
        outputs = {"tokens": np.array([words], np.int64)}
        return Heard(text(words), outputs, segments, at=count / self.sample_rate, notes=notes)

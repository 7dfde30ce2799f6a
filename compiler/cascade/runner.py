"""A stage while it runs: awake or asleep, what it has heard, and what that took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ...ir.errors import SpeechcError
from ..listen.listener import Heard, Listener, Segment, Stream
from .meter import Meter, macs_a_second
from .stage import Stage


class Whole(Stream):
    """A listener that takes whole recordings, fed in pieces: it hears them at the end."""

    def __init__(self, listener: Listener):
        self.listener = listener
        self.reset()

    def push(self, samples: np.ndarray) -> Heard | None:
        """Keep the samples."""
        self.parts.append(samples)
        return None

    def flush(self) -> Heard:
        """Hear them all."""
        return self.listener.hear(np.concatenate(self.parts))

    def reset(self) -> None:
        """Forget them."""
        self.parts: list[np.ndarray] = []


class Runner:
    """Feeds one stage. Places are samples from the start of the recording.

    `found` are detections and texts of stretches that are over, `now` those of the stretch that it hears. `fired` is
    the place up to which it last found something; `began` and `end` are where its stretch began, and how far it has
    heard. It counts stretches (`wakes`), `fed` samples, and `seconds` of running.
    """

    def __init__(self, stage: Stage, listener: Listener, meter: Meter):
        self.stage, self.listener, self.meter = stage, listener, meter
        self.stream = listener.stream() if listener.streams else Whole(listener)
        self.reset()

    def reset(self) -> None:
        """Start from the beginning, asleep."""
        self.awake, self.began, self.end, self.fired = False, 0, 0, -1
        self.found: list[Segment] = []
        self.now: list[Segment] = []
        self.texts: list[str] = []
        self.partial: str | None = None
        self.wakes = self.fed = 0
        self.seconds = 0.0
        self.count, self.going = 0, False

    def wake(self, place: int) -> None:
        """Begin a stretch at a place."""
        self.stream.reset()
        self.awake, self.began, self.end = True, place, place
        self.wakes += 1
        self.count, self.going, self.partial, self.now = 0, False, None, []

    def feed(self, samples: np.ndarray) -> bool:
        """Take in the next samples; whether there is news."""
        start = time.perf_counter()
        with self._named():
            heard = self.stream.push(samples)
        self.seconds += time.perf_counter() - start
        self.fed += len(samples)
        self.end += len(samples)
        if heard is not None:
            self._hear(heard, self.end)
        elif self.going:
            self.fired = self.end
        return heard is not None

    def sleep(self, place: int) -> None:
        """End the stretch, and keep what it found; what comes out only now was found at `place`."""
        start = time.perf_counter()
        with self._named():
            heard = self.stream.flush()
        self.seconds += time.perf_counter() - start
        self._hear(heard, place)
        self.found += [replace(s, going=False) for s in self.now]
        if self.partial:
            self.texts.append(self.partial)
        self.awake, self.now, self.partial, self.going = False, [], None, False

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the stage say which it is."""
        try:
            yield
        except SpeechcError as error:
            error.message = f"stage {self.stage.name}: {error.message}"
            raise

    def fired_at(self, place: int) -> bool:
        """Whether it found something, or goes on finding it, in the block that ends at a place."""
        return self.fired >= place

    def _hear(self, heard: Heard, place: int) -> None:
        """What a result says; it fires while a detection goes on, and where there is one more, or another text."""
        rate, name = self.listener.sample_rate, self.stage.name
        offset = self.began / rate
        segments = heard.segments or []
        fires = len(segments) > self.count or heard.text not in (None, "", self.partial)
        self.count = len(segments)
        self.going = not heard.final and any(s.going for s in segments)
        if heard.text is not None:
            self.partial = heard.text
            told = [Segment(offset, self.end / rate, f"{name}: {heard.text}", None, not heard.final)]
            self.now = told if heard.text else []
        else:
            self.now = [
                replace(s, start=offset + s.start, end=offset + s.end, label=f"{name}: {s.label}") for s in segments
            ]
        if fires or self.going:
            self.fired = place

    @property
    def text(self) -> str:
        """All texts so far."""
        return " ".join([*self.texts, *([self.partial] if self.partial else [])])

    def usage(self, samples: int) -> dict[str, object]:
        """What the stage took, of a recording of so many samples; `macs` are multiply-accumulates."""
        rate = self.listener.sample_rate
        macs = self.meter.macs if self.meter.known else None
        always = macs_a_second(self.listener)
        if always is None and macs is not None and self.fed:
            always = macs / (self.fed / rate)
        return {
            "stage": self.stage.name,
            "wakes": self.wakes,
            "heard_s": self.fed / rate,
            "duty": self.fed / samples if samples else 0.0,
            "calls": self.meter.calls,
            "macs": macs,
            "macs_always": None if always is None else round(always * samples / rate),
            "seconds": self.seconds,
        }

"""A cascade as a listener: the first file hears everything, each later one what the one before it lets through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import UsageError
from ..listen.listener import Heard, Listener, Segment, Stream, checked, listens
from ..listen.opening import open_listener
from ..listen.source import Source
from .history import History
from .meter import Meter
from .runner import Runner
from .stage import Stage, check, malformed, stages_of


@listens("cascade")
class Cascade(Listener):
    """Files of one sample rate in turn; opened from a `cascade.json`, or made of stages: `Cascade.of([...])`.

    A result has the detections and texts of all stages with their times in the recording (labels "stage: what"), the
    texts of the last stage that gives any, and in the end `usage`: what every stage took, and what it would have taken
    had it been awake all the time. Streams of one cascade share its files: use one at a time.
    """

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        super().__init__(source, threads, **decoding)
        self.stages = source.about["made"] if "made" in source.about else stages_of(source.about, source.path.parent)
        check(self.stages)
        self.listeners = [open_listener(s.file, threads, **s.options) for s in self.stages]
        for stage, listener in zip(self.stages, self.listeners):
            listener.check_audio()
            if listener.kind == "outputs":
                raise UsageError(
                    "SC096",
                    f"{stage.file} finds nothing: it has neither tokens nor scores",
                    hints=["compile it with --detect, or give the stage options such as threshold"],
                )
        rates = {s.name: x.sample_rate for s, x in zip(self.stages, self.listeners)}
        if len(set(rates.values())) > 1:
            told = ", ".join(f"{name} {rate}" for name, rate in rates.items())
            raise UsageError("SC096", f"the stages hear at different rates, in Hz: {told}")
        if not self.listeners[0].streams:
            raise UsageError("SC050", f"{self.stages[0].file} is always awake: it has to take chunks")
        self.files = [f for x in self.listeners for f in x.files]
        self.sessions = {
            f"{s.name}.{n}": session for s, x in zip(self.stages, self.listeners) for n, session in x.sessions.items()
        }
        self.meters = [Meter(x) for x in self.listeners]

    @staticmethod
    def of(stages: Sequence[Stage], threads: int | None = None) -> Cascade:
        """A cascade of stages, their files relative to the current folder."""
        return Cascade(Source(Path(), {}, {}, "cascade", {"made": list(stages)}), threads)

    @property
    def sample_rate(self) -> int:
        """Of all stages, Hz."""
        return self.listeners[0].sample_rate

    @property
    def streams(self) -> bool:
        """Always: stages that do not are asked at the end of their stretch."""
        return True

    @property
    def chunk_samples(self) -> int:
        """Samples at which stages wake and sleep: a step of the first."""
        return self.listeners[0].chunk_samples

    def hear(self, samples: np.ndarray) -> Heard:
        """What all stages find in a recording."""
        stream = self.stream()
        stream.push(samples)
        return stream.flush()

    def stream(self) -> CascadeStream:
        """A new stream of samples."""
        return CascadeStream(self)


class CascadeStream(Stream):
    """One recording through all stages. What they hear does not depend on how it is cut into pieces."""

    def __init__(self, cascade: Cascade):
        self.cascade, self.block, self.rate = cascade, cascade.chunk_samples, cascade.sample_rate
        self.runners = [Runner(*each) for each in zip(cascade.stages, cascade.listeners, cascade.meters)]
        names = [s.name for s in cascade.stages]
        self.holders = [None] + [
            self.runners[i if s.until is None else names.index(s.until)] for i, s in enumerate(cascade.stages[1:])
        ]
        self.longest = [self._longest(r) for r in self.runners]
        self.reset()

    def push(self, samples: np.ndarray) -> Heard | None:
        """Take in any number of samples."""
        self.waiting = np.concatenate([self.waiting, checked(samples)])
        self.pushed += len(samples)
        news = False
        while len(self.waiting) >= self.block:
            block, self.waiting = np.split(self.waiting, [self.block])
            news |= self._move(block)
        return self._heard(False) if news else None

    def flush(self) -> Heard:
        """The end of the recording: all stages go to sleep."""
        if len(self.waiting):
            self._move(self.waiting)
            self.waiting = self.waiting[:0]
        for i, runner in enumerate(self.runners):
            if runner.awake:
                found = len(runner.found) + len(runner.now)
                runner.sleep(self.history.end)
                if len(runner.found) > found and i + 1 < len(self.runners):
                    self._rouse(i + 1, self.history.end)
        return self._heard(True)

    def reset(self) -> None:
        """Start from the beginning."""
        most = max(s.pre_roll_ms for s in self.cascade.stages)
        self.history = History(self._samples(most) + self.block)
        self.waiting, self.pushed = np.zeros(0, np.float32), 0
        for runner in self.runners:
            runner.reset()
            runner.meter.reset()
        self.woken = [0] * len(self.runners)  # the place of the last trigger of each
        self.runners[0].wake(0)

    # -- one block -----------------------------------------------------------------------------------------------------
    def _move(self, block: np.ndarray) -> bool:
        """Feed a block through all stages that are awake, or are woken by it; whether there is news."""
        self.history.add(block)
        news, here = False, self.history.end
        for i, runner in enumerate(self.runners):
            fired = i > 0 and self.runners[i - 1].fired_at(here)
            full = runner.end - runner.began + len(block) > self.longest[i]
            if runner.awake and (full or (i and not fired and self._over(i, here))):
                runner.sleep(here)
                news = True
            if fired and self._rouse(i, here, len(block)):
                news = True
            elif runner.awake:
                news |= runner.feed(block)
        return news

    def _rouse(self, i: int, here: int, fresh: int = 0) -> bool:
        """Stage `i` was triggered: wake it if it sleeps, and feed it all from its pre-roll on; whether it slept."""
        runner = self.runners[i]
        self.woken[i] = here
        if runner.awake:
            return False
        start = min(here - self._samples(runner.stage.pre_roll_ms), here - fresh)
        start = max(start, runner.end, self.history.start)
        if start >= here:
            return False
        runner.wake(start)
        runner.feed(self.history.since(start))
        return True

    def _over(self, i: int, here: int) -> bool:
        """Whether what keeps a stage awake has been quiet for its hang-over."""
        last = max(self.woken[i], self.holders[i].fired)
        return here - last > self._samples(self.runners[i].stage.hang_over_ms)

    def _samples(self, ms: float) -> int:
        return round(ms * self.rate / 1000)

    def _longest(self, runner: Runner) -> float:
        asked, takes = runner.stage.longest_ms, runner.listener.max_samples
        limits = [float("inf") if asked is None else self._samples(asked), float("inf") if takes is None else takes]
        if runner is self.runners[0]:
            return float("inf")
        if min(limits) < self._samples(runner.stage.pre_roll_ms) + self.block:
            raise malformed(f"gives {runner.stage.name} a pre-roll that is longer than it may be awake")
        return min(limits)

    # -- results -------------------------------------------------------------------------------------------------------
    def _heard(self, final: bool) -> Heard:
        segments = sorted((s for r in self.runners for s in (*r.found, *r.now)), key=_place)
        made = Heard(self._text(), {}, segments, at=self.pushed / self.rate, final=final)
        made.usage = self.usage() if final else None
        return made

    def _text(self) -> str | None:
        """The texts of the last stage that gives any; None where all stages only detect."""
        texts = [r.text for r in self.runners if r.listener.kind != "scores"]
        return texts[-1] if texts else None

    def usage(self) -> dict[str, Any]:
        """What all stages took so far, each alone and together."""
        stages = [r.usage(self.pushed) for r in self.runners]
        total = lambda name: None if any(s[name] is None for s in stages) else sum(s[name] for s in stages)
        macs, always = total("macs"), total("macs_always")
        saved = None if not always else 1 - macs / always
        return {"audio_s": self.pushed / self.rate, "stages": stages, "macs": macs, "macs_always": always,
                "saved": saved, "seconds": total("seconds")}  # fmt: skip


def _place(segment: Segment) -> tuple[float, float]:
    return segment.start, segment.end

"""Measures files side by side: each in a process of its own, in blocks in turn, for every number of threads and batch.

Alternating single runs empties the caches and flattens every ratio; one file after the other drifts with the machine.
Blocks of a few runs in turn do neither.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...ir.errors import SpeechcError, UnsupportedError
from ..listen.source import read_source
from ..place import size_of
from .figures import Latency, Ratio
from .process import Process

LEAST_BLOCKS = 3  # that are run, however long they take
Progress = Callable[[str], None]


@dataclass
class Settings:
    """What to measure. `seconds` of noise, or a recording; `most`: seconds a file and number of threads may take."""

    seconds: float = 10.0
    audio: Path | None = None
    frame_shift: str | None = None  # seconds, as a fraction
    threads: Sequence[int] = (1,)
    batches: Sequence[int] = (1,)
    blocks: int = 20
    runs: int = 5
    most: float = 20.0
    profile: int | None = None  # calls


@dataclass
class Timed:
    """A file with one number of threads. `blocks` hold the seconds of whole runs, `parts` those of all their parts.

    `throughput`: seconds of audio a second, by batch.
    """

    threads: int
    blocks: list[list[float]] = field(default_factory=list)
    parts: list[float] = field(default_factory=list)
    ratio: Ratio | None = None
    throughput: dict[int, float] = field(default_factory=dict)


@dataclass
class Measured:
    """What was measured of a file.

    `opened` is what its process said when it loaded the file; `profile` has the seconds of every operator in a call, as
    the mean of `calls`.
    """

    path: Path
    about: dict[str, Any]
    name: str = ""
    opened: dict[str, Any] = field(default_factory=dict)
    timed: list[Timed] = field(default_factory=list)
    profile: list[dict[str, Any]] | None = None
    calls: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Something that the reader should know; once."""
        if text not in self.notes:
            self.notes.append(text)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        o = self.opened
        return {
            "path": str(self.path), **self.about, "runner": o["runner"], "unit": o["unit"], "seconds": o["seconds"],
            "chunk_ms": None if o["chunk"] is None else 1000 * o["chunk"],
            "load": {k: o[k] for k in ("import_seconds", "load_seconds", "first_seconds")},
            "memory": {k: o[k] for k in ("base_bytes", "loaded_bytes", "peak_bytes")},
            "timed": [self._timed(t) for t in self.timed], "profile": self.profile, "profile_calls": self.calls,
            "notes": self.notes,
        }  # fmt: skip

    def _timed(self, t: Timed) -> dict[str, Any]:
        runs = [s for block in t.blocks for s in block]
        return {
            "threads": t.threads,
            "utterance": Latency.of(runs).as_dict(),
            "chunk": Latency.of(t.parts).as_dict() if self.opened["unit"] == "chunk" else None,
            "real_time_factor": self.busy(t),
            "ratio": None if t.ratio is None else vars(t.ratio),
            "throughput": [{"batch": n, "audio_seconds_per_second": v} for n, v in t.throughput.items()],
        }

    def busy(self, t: Timed) -> float | None:
        """Seconds of work a second of audio: the middle run."""
        seconds = self.opened["seconds"]
        return None if not seconds else statistics.median(s for block in t.blocks for s in block) / seconds


def measure(paths: Sequence[Path], settings: Settings, progress: Progress = lambda what: None) -> list[Measured]:
    """Measure files side by side; the ratios are against the first of them."""
    names = [p.name for p in paths]
    files = [Measured(p, _about(p), p.name if names.count(p.name) == 1 else str(p)) for p in paths]
    for m in files:
        progress(f"{m.name}: memory and load time")
        with Process(m.path, settings.threads[0]) as alone:
            m.opened = alone.call("open", **_given(m, settings, settings.threads[0]))
            for text in m.opened["notes"]:
                m.note(text)
            for name in alone.call("check"):
                m.note(f"its output {name} has NaN: it may be faster, or slower, than with numbers")
            if settings.profile is not None:
                progress(f"{m.name}: a profile")
                _profile(m, alone, settings, others=len(files) > 1)
    for threads in settings.threads:
        _side_by_side(files, threads, settings, progress)
    return files


def _given(m: Measured, settings: Settings, threads: int) -> dict[str, Any]:
    audio = None if settings.audio is None else str(settings.audio)
    return {"path": str(m.path), "threads": threads, "seconds": settings.seconds, "audio": audio,
            "shift": settings.frame_shift}  # fmt: skip


def _side_by_side(files: list[Measured], threads: int, settings: Settings, progress: Progress) -> None:
    with ExitStack() as stack:
        open_ = [stack.enter_context(Process(m.path, threads)) for m in files]
        for m, process in zip(files, open_):
            process.call("open", **_given(m, settings, threads))
            m.timed.append(Timed(threads))
        start = time.perf_counter()
        for k in range(settings.blocks):
            if k >= LEAST_BLOCKS and time.perf_counter() - start > settings.most * len(files):
                for m in files:
                    m.note(f"stopped after {k} of {settings.blocks} blocks ({settings.most:g} s a file)")
                break
            for m, process in zip(files, open_):
                progress(f"{m.name}: {_threads(threads)}, block {k + 1} of {settings.blocks}")
                runs = process.call("block", runs=settings.runs)
                m.timed[-1].blocks.append([sum(parts) for parts in runs])
                m.timed[-1].parts += [s for parts in runs for s in parts]
        scaled = lambda m: [[s / (m.opened["seconds"] or 1) for s in block] for block in m.timed[-1].blocks]
        for m in files[1:]:
            m.timed[-1].ratio = Ratio.of(scaled(files[0]), scaled(m))
        for batch in settings.batches:
            _throughput(files, open_, batch, threads, settings, progress)


def _throughput(
    files: list[Measured], open_: list[Process], batch: int, threads: int, settings: Settings, progress: Progress
) -> None:
    """Seconds of audio a second at one batch, of every file that takes it."""
    taking = []
    for m, process in zip(files, open_):
        reason = process.call("batch", n=batch)
        if reason is not None:
            m.note(f"no batch of {batch}: {reason}")
        elif m.opened["seconds"]:
            taking.append((m, process, []))
    start = time.perf_counter()
    for k in range(max(LEAST_BLOCKS, settings.blocks // 4)):
        if k >= LEAST_BLOCKS and time.perf_counter() - start > settings.most * len(taking) / 4:
            break
        for m, process, blocks in taking:
            progress(f"{m.name}: {_threads(threads)}, {batch} at once")
            runs = process.call("block", runs=max(1, settings.runs // 2))
            blocks.append(statistics.median(sum(parts) for parts in runs))
    for m, _, blocks in taking:
        m.timed[-1].throughput[batch] = batch * m.opened["seconds"] / statistics.median(blocks)


def _profile(m: Measured, process: Process, settings: Settings, others: bool) -> None:
    """Take the profile, seconds of one call; of several files those that cannot be profiled are noted."""
    try:
        found, m.calls = process.call("profile", calls=settings.profile), settings.profile
        m.profile = [o | {"seconds": o["seconds"] / m.calls} for o in found]
    except SpeechcError as error:
        if not others or not isinstance(error, UnsupportedError):
            raise
        m.note(f"no profile: {error.message}")


def _about(path: Path) -> dict[str, Any]:
    source = read_source(path)
    manifests = list(source.manifests.values())
    named = lambda name: "+".join(dict.fromkeys(getattr(m, name) for m in manifests))
    return {"target": named("target"), "precision": named("precision"), "bytes": size_of(source.files.values())}


def _threads(n: int) -> str:
    return f"{n} thread{'s' * (n > 1)}"


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count(),
            "python": platform.python_version()}  # fmt: skip


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""Compiles the parts of a model into one folder: a file each, and `bundle.json`, which says how they go together."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import UnsupportedError, UsageError
from ...ir.text import clone
from ...passes.front_end.reference import signal
from .. import driver
from ..audio import read_samples
from ..listen.source import BUNDLE
from ..place import Workshop
from ..report import Report
from ..samples import Feeds
from ..settings import Settings
from ..streaming import Streaming
from ..subject import Subject
from ..target_flags import ALL
from .assemble import Assembly
from .calibration import behind

OWN_STREAMING = Streaming()


@dataclass
class Bundle:
    """A compiled folder: what each part became, and `about`, the contents of its `bundle.json`."""

    folder: Path
    reports: dict[str, Report]
    about: dict[str, Any]
    seconds: float

    @property
    def bytes(self) -> int:
        """Of all parts, without manifests."""
        return sum(r.bytes for r in self.reports.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "folder": str(self.folder),
            "kind": self.about["kind"],
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "parts": {name: r.as_dict() for name, r in self.reports.items()},
        }


def build(assembly: Assembly, settings: Settings, progress: Callable[[str], None] = lambda what: None) -> Bundle:
    """Compile every part and write the folder `<output>/<name>`, whole or not at all.

    Raises what `driver.build` raises, and `UsageError` SC058 for flags that say how a single file streams.
    """
    start, parts = time.perf_counter(), assembly.parts
    if settings.target == ALL:
        raise UsageError("SC058", "a model of several parts is compiled for one target at a time")
    listening = any(part.listens for part in parts.parts.values())
    if settings.ctc is not None or not (
        listening or replace(settings.streaming, batch=None, own_inputs=False) == OWN_STREAMING
    ):
        raise UsageError(
            "SC058",
            f"{parts.name} is a model of several parts, which stream as its kind ({parts.kind}) wants it",
            hints=["leave out --stream and the flags that go with it; --batch N and --own-inputs are for the decoder"],
        )
    final = (settings.output or Path.cwd()) / (settings.name or parts.name)
    if final.exists() and not (final / BUNDLE).is_file():
        raise UsageError("SC011", f"{final} is there and is no earlier result", hints=["another folder after -o"])
    with Workshop(final) as folder:
        reports: dict[str, Report] = {}
        samples: dict[str, list[Feeds]] = {}
        for name, subject in assembly.subjects.items():
            told = lambda what, name=name: progress(f"{name}: {what}")
            subject = replace(subject, module=clone(subject.module))
            own = _for_part(assembly, name, settings, folder / "made")
            if name in samples:
                own.calibration = samples[name]
            reports[name] = _built(subject, own, told, len(reports) == 0)
            if len(reports) == 1:
                _hear(assembly, reports[name].artefact, settings.calibration)
            if len(reports) == 1 and settings.calibration is not None:
                progress("hearing the calibration recordings for the parts behind")
                samples = behind(assembly, reports[name].artefact, settings.calibration)
        about = _about(assembly, reports, settings)
        (folder / "made" / BUNDLE).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        if final.exists():
            final.rename(folder / "old")
        shutil.move(folder / "made", final)
    for report in reports.values():
        report.artefact = final / report.artefact.name
        report.files = [final / f.name for f in report.files]
    return Bundle(final, reports, about, time.perf_counter() - start)


def _hear(assembly: Assembly, first: Path, calibration: Any) -> None:
    """Give the parts behind the first, as samples, what it makes of audio: a recording, or the front ends' signal."""
    manifest = driver.manifest_of(first)
    (port, *others) = manifest.inputs
    if others or len(port.shape) != 2 or not isinstance(port.shape[1], int) or manifest.sample_rate is None:
        return
    audio = signal(manifest.sample_rate, port.shape[1])[None]
    if isinstance(calibration, (str, Path)):
        fits = lambda sample: isinstance(sample, np.ndarray) and sample.ndim == 2 and sample.shape[1] <= port.shape[1]
        audio = next((s for s in read_samples(Path(calibration), manifest.sample_rate) if fits(s)), None)
        if audio is None:
            return
    session = driver.open_artefact(first)
    made = session.run_named({port.name: np.pad(audio, ((0, 0), (0, port.shape[1] - audio.shape[1])))})
    for subject in list(assembly.subjects.values())[1:]:
        subject.sample |= {name: array for name, array in made.items() if name in subject.sample}


def _built(subject: Subject, settings: Settings, progress: Callable[[str], None], first: bool) -> Report:
    """A part; one behind the first that is too small for int8 stays in float, and its report says so."""
    whole = clone(subject.module)
    try:
        return driver.build(subject, settings, progress)
    except UnsupportedError as error:
        if error.code != "SC310" or first:
            raise
        progress("too small for int8: in float")
        subject = replace(subject, module=whole)
        report = driver.build(subject, replace(settings, precision=None, calibration=None), progress)
        report.remarks.append(f"note: {error.message}: it stays in float")
        return report


def _for_part(assembly: Assembly, name: str, settings: Settings, folder: Path) -> Settings:
    part = assembly.parts.parts[name]
    streaming, asked = OWN_STREAMING, settings.streaming
    if part.stream is not None:
        streaming = replace(
            OWN_STREAMING, stream=f"{part.stream} frames", batch=asked.batch, own_inputs=asked.own_inputs
        )
    elif part.listens:
        streaming = replace(asked, batch=None, own_inputs=False)
    first = name == next(iter(assembly.parts.parts))
    return replace(
        settings,
        streaming=streaming,
        output=folder,
        name=name,
        calibration=settings.calibration if first else None,
        front_end=(settings.front_end or assembly.parts.front_end) if first and settings.features is None else None,
        features=settings.features if first else None,
        keep=settings.keep or part.keep,
        dump=settings.dump and settings.dump / name,
    )


def _about(assembly: Assembly, reports: dict[str, Report], settings: Settings) -> dict[str, Any]:
    parts = assembly.parts
    return {
        "speechc": 1,
        "kind": parts.kind,
        "target": settings.target,
        "precision": {name: r.precision for name, r in reports.items()},
        "files": {name: r.artefact.name for name, r in reports.items()},
        "sample_rate": parts.sample_rate,
        "decoding": parts.decoding,
        "spelling": parts.spelling,
        "tokens": parts.tokens,
    }

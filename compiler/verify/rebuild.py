"""The model compiled once more in memory, as the file's manifest says, to have what each of its values should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ... import __version__
from ...ir.graph import Module
from ...ir.text import clone
from ...lowering.manifest import Manifest
from ...lowering.target import target as find_target
from ...passes.base import Lossy
from ..driver import Together
from ..recipe import digest, settings_of
from ..samples import Feeds
from ..settings import Settings
from ..stages import Stages
from ..streamed import describe
from ..subject import Subject


@dataclass
class Rebuilt:
    """What compiling the model again gives: the final graph, the same without loss, and the stages on the way.

    `exact` says whether the file should hold the same numbers: one version, one calibration (`calibrated`: that the
    samples, at least, are the same). `notes` say why not.
    """

    subject: Subject
    settings: Settings
    module: Module
    plain: Module
    stages: Stages
    together: Together
    exact: bool = True
    calibrated: bool = True
    notes: list[str] = field(default_factory=list)


def rebuild(
    subject: Subject,
    manifest: Manifest,
    settings: Settings,
    stand_in: list[Feeds],
    progress: Callable[[str], None] = lambda what: None,
) -> Rebuilt:
    """Compile `subject` with the settings that `asked_for` found in `manifest`; nothing is written.

    Where the file was calibrated and the settings hold no samples, `stand_in` is used: the graph has the same ops then,
    with other scales. Raises as a compilation does.
    """
    made, notes, calibration = manifest.made, [], settings.calibration
    if not made:
        notes.append("the manifest does not say how the file was made: taken as compiled without options")
    elif made["speechc"] != __version__:
        notes.append(f"the file was made by speechc {made['speechc']}, this is {__version__}")
    wanted = made.get("calibration")
    given = None if wanted is None else stand_in if calibration is None else calibration
    settings = replace(settings, calibration=given)
    plain = clone(subject.module)
    module, stages, together = _graphs(subject, settings, progress)
    if wanted is not None and calibration is None:
        count = wanted["samples"]
        notes.append(f"the file was calibrated with {count} samples: --calibrate DIR has it compared op by op")
    elif wanted is not None and digest(together.samples) != wanted:
        notes.append("the file was calibrated with other samples than those given")
    calibrated = wanted is None or digest(together.samples) == wanted
    float32 = "float32" in find_target(settings.target).precisions
    if settings.precision == "float32" or not float32:
        plain = module
    else:
        progress("compiling it in float32, to compare with")
        plain = _graphs(replace(subject, module=plain), settings, lambda what: None, lossless=True)[0]
    return Rebuilt(subject, settings, module, plain, stages, together, not notes, calibrated, notes)


def asked_for(manifest: Manifest, calibration: Any, folder: Path) -> Settings:
    """The settings that a file was compiled with, as far as its manifest says them."""
    return settings_of(
        manifest.made or {"target": manifest.target, "precision": manifest.precision}, calibration, folder
    )


def _graphs(subject: Subject, settings: Settings, progress, lossless: bool = False) -> tuple[Module, Stages, Together]:
    together = Together(subject, [settings], progress)
    if lossless:  # what prepares for codes stays: a value is to be compared with what it stands for, scaled alike
        (branch,) = together.branches
        branch.plan = [p for p in branch.plan if not (p.stage == "compress" and isinstance(p.equal, Lossy))]
    together.begin()
    if together.stages.streams:
        describe(together.stages, subject.module, settings.streaming, together.hz)
    return subject.module, together.stages, together

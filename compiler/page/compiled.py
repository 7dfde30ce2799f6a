"""The page of a compilation (`--report`): what it reported, and each file looked into once more beside its model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...ir.errors import SpeechcError
from ...ir.text import clone
from ..assembly.assemble import Assembly
from ..report import Report
from ..settings import Settings
from ..subject import Subject
from ..verify.verify import Asked, verify
from .write import check_page, write_page

Progress = Callable[[str], None]


class CompiledPage:
    """Made before compiling, which uses the graph up; `write` is called with what came out.

    Raises as `check_page`.
    """

    def __init__(self, path: Path, subject: Subject | Assembly, model: str, settings: Settings):
        check_page(path)
        self.path, self.model, self.settings = path, model, settings
        parts = subject.subjects if isinstance(subject, Assembly) else {"": subject}
        self.first = next(iter(parts))  # the part that takes audio, and what it is calibrated with
        self.subjects = {name: replace(s, module=clone(s.module)) for name, s in parts.items()}

    def write(self, reports: Iterable[tuple[str, Report]], progress: Progress = lambda what: None) -> None:
        """Write the page of (name of the part, report) pairs; a model of one part has no name."""
        found: dict[str, list[dict[str, Any]]] = {"compile": [], "verify": []}
        for name, report in reports:
            progress(f"looking into {report.artefact.name} for the page")
            data = report.as_dict()
            subject, settings = self.subjects[name], self.settings
            samples = settings.calibration if name == self.first else None
            try:
                verdict = verify(
                    replace(subject, module=clone(subject.module)), self.model, report.artefact,
                    Asked(calibration=samples, min_snr=settings.min_snr, sample_rate=settings.sample_rate),
                )  # fmt: skip
                found["verify"].append(verdict.as_dict())
            except SpeechcError as error:
                data["remarks"] = [*data["remarks"], f"not looked into: {error.message}"]
            found["compile"].append(data)
        write_page(self.path, found)

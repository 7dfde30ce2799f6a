"""A file, or a folder of several, beside a model of one part or several: each file with its own part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...ir.errors import NumericalError
from ...ir.text import clone
from ..assembly.assemble import Assembly
from ..listen.source import read_source
from ..subject import Subject
from .verdict import Verdict
from .verify import Asked, verify


def verify_all(
    model: Subject | Assembly,
    called: str,
    path: Path,
    asked: Asked,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Verdict]:
    """Verdicts by part; of a model of one part by "". Recordings go to the part that takes audio, the first.

    Raises as `verify`, and `NumericalError` SC542 where a folder has not the parts of the model.
    """
    source = read_source(path)
    parts = model.subjects if isinstance(model, Assembly) else {"": model}
    found = {"": path} if source.kind is None else source.files
    if set(parts) != set(found):
        has = lambda names: ", ".join(n or "one graph" for n in names)
        raise NumericalError("SC542", f"{path} holds {has(found)}; {called} is {has(parts)}")
    verdicts = {}
    for number, (name, subject) in enumerate(parts.items()):
        own = asked if number == 0 else replace(asked, audio=None, calibration=None)
        told = lambda what, name=name: progress(f"{name}: {what}" if name else what)
        fresh = replace(subject, module=clone(subject.module))
        verdicts[name] = verify(fresh, f"{called}, {name}" if name else called, found[name], own, told)
    return verdicts

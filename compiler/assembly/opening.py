"""Reads what a user calls a model: one graph, or several that go together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...ir.errors import UsageError
from ..subject import Subject, name_of, read_subject
from .assemble import Assembly, assemble


def read_model(
    model: Any,
    inputs: Any = None,
    time_axis: int | Mapping[str, int] = 1,
    weights: Path | None = None,
    trust_pickle: bool = False,
) -> Subject | Assembly:
    """As `read_subject`; an `Assembly` for a model of several graphs, unless inputs for its whole forward are given.

    Raises `UsageError` SC046 for inputs given to parts, which say theirs.
    """
    if isinstance(model, (str, Path)) and str(model).endswith(".sir"):
        return read_subject(model, inputs, time_axis, weights, trust_pickle)
    from ..capture.source import open_source

    described = inputs is not None and len(inputs) > 0
    source = open_source(model, weights, trust_pickle, whole=described)
    if source.parts is None:
        subject = read_subject(source, inputs, time_axis)
        subject.name = name_of(model)
        return subject
    if described:
        raise UsageError("SC046", f"{source.name} has several parts, which say what their inputs are: leave inputs out")
    source.parts.name = source.name if isinstance(model, (str, Path)) else source.parts.name
    source.parts.digest = source.parts.digest or source.digest
    source.parts.notes += source.notes
    return assemble(source.parts)

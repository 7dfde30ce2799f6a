"""The sections of a page in order, each from what one command prints with `--json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .bench_section import bench_sections
from .compile_sections import compile_sections
from .eval_section import eval_sections
from .fit_section import fit_sections
from .verify_section import verify_sections
from .view import Section

# What each command's data become.
MADE: dict[str, Callable[[Mapping[str, Any]], Iterator[Section]]] = {
    "compile": compile_sections,
    "verify": verify_sections,
    "eval": eval_sections,
    "bench": bench_sections,
    "fit": fit_sections,
}
# A key that each command's data always have.
SIGNS = {
    "compile": ["artefact"], "verify": ["trials"], "eval": ["normalise_text"], "bench": ["machine"], "fit": ["need"],
}  # fmt: skip
# What was found comes before how it was made; of equal parts, the first result's comes first.
ORDER = ("file", "verify", "errors", "words", "bench", "fit", "streaming", "along", "sizes", "passes", "remarks")


def sections(found: Mapping[str, Any]) -> list[Section]:
    """All sections for which there is something to show; several results of a command follow one another."""
    made: list[Section] = []
    for name, make in MADE.items():
        results = list(_several(found.get(name)))
        for which, data in results:
            for section in make(data):
                section.title += f": {which}" if which else ""
                made.append(section)
    made.sort(key=lambda s: ORDER.index(s.id) if s.id in ORDER else len(ORDER))
    taken: dict[str, int] = {}
    for section in made:
        taken[section.id] = taken.get(section.id, 0) + 1
        if taken[section.id] > 1:
            section.id += f"-{taken[section.id]}"
    return made


def _several(data: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Results with a name each, where there are several: of targets, or of the parts of a model."""
    if not data:
        return
    if isinstance(data, list):
        for one in data:
            for which, inner in _several(one):
                own = _called(one) if len(data) > 1 else ""
                yield ", ".join(part for part in (own, which) if part), inner
    elif isinstance(data.get("parts"), Mapping):
        yield from ((name, one) for name, one in data["parts"].items())
    else:
        yield "", data


def _called(one: Mapping[str, Any]) -> str:
    """What tells one result of several from the others."""
    path = one.get("artefact") or one.get("file") or one.get("folder")
    kind = " ".join(str(one[k]) for k in ("target", "precision") if one.get(k))
    return " ".join(part for part in (Path(str(path)).name if path else "", kind) if part)

"""What lies at a path: one file with its manifest, a folder of several that `bundle.json` describes, or a cascade."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...ir.errors import UsageError
from ...lowering.manifest import Manifest, manifest_path
from .. import driver

BUNDLE = "bundle.json"  # {"kind": "attention", "files": {"encoder": "encoder.onnx", ...}, ...}
MAIN = "main"  # the name of a file that is alone


@dataclass
class Source:
    """Files and their manifests by graph. `kind` is what a bundle says it is; `about` is the bundle's own JSON."""

    path: Path
    files: dict[str, Path]
    manifests: dict[str, Manifest]
    kind: str | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest | None:
        """That of a file that is alone; None for a bundle."""
        return self.manifests.get(MAIN) if self.kind is None else None


def read_source(path: Path) -> Source:
    """What lies at `path`. Raises `UsageError`: SC010, SC036, and SC054 for a bundle that is malformed."""
    listed = path if path.suffix == ".json" else path / BUNDLE
    if manifest_path(path).exists() or not listed.is_file():
        return Source(path, {MAIN: path}, {MAIN: driver.manifest_of(path)})
    try:
        about = json.loads(listed.read_text())
        kind = str(about["kind"])
        if "stages" in about:  # a stage may be a folder again, which has manifests of its own
            return Source(listed, *_stages(listed.parent, about["stages"]), kind, about)
        files = {str(n): listed.parent / f for n, f in about["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError("SC054", f"{listed} does not say its kind and its files") from None
    return Source(listed.parent, files, {n: driver.manifest_of(f) for n, f in files.items()}, kind, about)


def _stages(folder: Path, stages: Any) -> tuple[dict[str, Path], dict[str, Manifest]]:
    """The files of a cascade that are files alone; what is malformed is told by who opens it.

    Raises `UsageError` SC010 for a file that is not there.
    """
    named = [s for s in stages if isinstance(s, dict) and "file" in s] if isinstance(stages, list) else []
    files = {str(s.get("name", s["file"])): folder / str(s["file"]) for s in named}
    for path in files.values():
        if not path.exists():
            raise UsageError("SC010", f"{path} does not exist")
    files = {name: path for name, path in files.items() if manifest_path(path).exists()}
    return files, {name: driver.manifest_of(path) for name, path in files.items()}

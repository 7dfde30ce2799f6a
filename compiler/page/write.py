"""Writes a page: what the commands found, as one HTML file that needs nothing else."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ... import __version__
from ...ir.errors import UsageError
from ...lowering.target import needs
from .sections import Section, sections

PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "ai-edge-litert", "coremltools", "tensorrt-rtx", "transformers")
PARTS = ("page.html.jinja", "page.css")


def check_page(path: Path | None) -> None:
    """Raise before long work what would keep a page from being written.

    `MissingError` SC800 where a package is missing, `UsageError` SC011 for a place that cannot be.
    """
    if path is None:
        return
    needs("jinja2", "report")
    needs("matplotlib", "report")
    if path.is_dir() or not path.absolute().parent.is_dir():
        why = "is a folder" if path.is_dir() else "is in no folder that there is"
        raise UsageError("SC011", f"--report {path} {why}", hints=["--report report.html"])


def write_page(path: Path, found: Mapping[str, Any], command: Sequence[str] | None = None) -> None:
    """Write the page of what commands found: by command's name, what it prints with `--json`, or a list of that.

    Unknown names are left out, and so is every part for which there is nothing. Raises as `check_page`.
    """
    check_page(path)
    text = page(found, command)
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError("SC011", f"cannot write {path} ({error.strerror or error})") from None


def page(found: Mapping[str, Any], command: Sequence[str] | None = None) -> str:
    """The page as text; every text in `found` is escaped."""
    jinja2 = needs("jinja2", "report")
    folder = Path(__file__).parent
    template, css = ((folder / name).read_text(encoding="utf-8") for name in PARTS)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made: list[Section] = sections(found)
    return environment.from_string(template).render(
        css=css, sections=made, title=_title(found), summary=_summary(found), command=_said(command), made=_made(),
        versions=_versions(),
    )  # fmt: skip


def _first(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    data = found.get(name) or {}
    data = data[0] if isinstance(data, list) else data
    return next(iter(data["parts"].values())) if isinstance(data.get("parts"), Mapping) else data


def _title(found: Mapping[str, Any]) -> str:
    for name, key in (("compile", "artefact"), ("verify", "file"), ("fit", "path")):
        data = _first(found, name)
        if key in data:
            return Path(data[key]).name
    files = _first(found, "eval").get("files") or _first(found, "bench").get("files") or []
    names = [str(f.get("file") or f.get("path", "")) if isinstance(f, Mapping) else str(f) for f in files]
    return ", ".join(names) or "speechc"


def _summary(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name in ("compile", "verify"):
        data = _first(found, name)
        rows += [(key, str(data[key])) for key in ("target", "precision") if key in data and not rows[1:]]
    return rows


def _said(command: Sequence[str] | None) -> str:
    given = list(sys.argv[1:] if command is None else command)
    return shlex.join(["speechc", *given])


def _made() -> str:
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _versions() -> list[tuple[str, str]]:
    rows = [("speechc", __version__), ("Python", platform.python_version()), ("system", platform.platform())]
    for name in PACKAGES:
        try:
            rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return rows

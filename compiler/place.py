"""Where results go: a name for them, a folder to make them in, and their place once they are proven."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..ir.errors import UsageError
from ..lowering.target import SUFFIXES, Target
from .settings import Settings


def output_path(settings: Settings, name: str, target: Target) -> Path:
    """Where the artefact goes: the file or folder asked for, or the current folder, under the model's name."""
    out, suffix = settings.output or Path.cwd(), target.suffix
    if out.suffix == suffix and (target.folder or not out.is_dir()):
        path = out
    elif out.suffix in SUFFIXES and not out.is_dir():
        raise UsageError("SC011", f"{out} is no name for a {suffix} file", hints=[f"-o {out.with_suffix(suffix)}"])
    else:
        path = out / f"{settings.name or name}{suffix}"
    folder = path.parent
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        if path.is_dir() and not (target.folder and _is_package(path)):
            raise IsADirectoryError(None, "a folder has that name")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError("SC011", f"cannot write {path} ({error.strerror or error})") from None
    return path


def _is_package(path: Path) -> bool:
    """Whether a folder is an earlier result, to be written over, and nothing else that a user may have there."""
    return (path / "Manifest.json").is_file()


class Workshop:
    """A temporary folder beside the result: files are moved out of it only when they are proven.

    A folder for the result that had to be made goes again where nothing was put into it.
    """

    def __init__(self, final: Path):
        self.parent = final.parent

    def __enter__(self) -> Path:
        self.made = [p for p in (self.parent, *self.parent.absolute().parents) if not p.exists()]
        self.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=".speechc-", dir=self.parent))
        return self.folder

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self.made:
            with contextlib.suppress(OSError):  # it holds the result
                folder.rmdir()


def deliver(written: list[Path], folder: Path) -> list[Path]:
    """Move what was written to its place, over what was there."""
    for path in written:
        there = folder / path.name
        if there.is_dir():
            there.replace(path.with_name(f"{path.name}.old"))  # a folder is replaced by none but an empty one
        path.replace(there)
    return [folder / path.name for path in written]


def size_of(files: Iterable[Path]) -> int:
    """Bytes of what was made, manifests left out."""
    inside = [f for path in files for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file()]
    return sum(f.stat().st_size for f in inside if f.parent.suffix or not f.name.endswith(".json"))

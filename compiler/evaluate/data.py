"""What to evaluate on: recordings with texts, from a list or a folder, and what is missing of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...ir.errors import UsageError
from ..recordings import SUFFIXES, LeftOut
from ..texts import TEXTS, listed, read_text


@dataclass(frozen=True)
class Item:
    """A recording and what is said in it."""

    name: str
    path: Path
    text: str


def read_data(source: Path, root: Path | None = None) -> tuple[list[Item], list[LeftOut]]:
    """The recordings with texts of a list (JSON lines) or a folder, and those that lack either.

    A folder has `texts.jsonl`, or a `.txt` beside each recording. `root`: where recordings of a list lie (by default
    beside it). Raises `UsageError`: SC010, SC033 where there are none, SC037 for a malformed list.
    """
    if not source.exists():
        raise UsageError("SC010", f"{source} does not exist")
    if root is not None and not root.is_dir():
        raise UsageError("SC033", f"--audio-root {root}: no such folder")
    if source.is_dir() and not (source / TEXTS).is_file():
        items, left = _beside(source)
    else:
        pairs = listed(source / TEXTS if source.is_dir() else source, root)
        base = root or (source if source.is_dir() else source.parent)
        items, left = [Item(_name(path, base), path, text) for path, text in pairs], []
    if not items:
        raise UsageError(
            "SC033",
            f"{source} holds no recordings with texts",
            [f"{e.name}: {e.why}" for e in left[:5]],
            [f'lines {{"audio": file, "text": words}}, {TEXTS} in a folder, or a .txt beside each recording'],
        )
    return items, left


def _beside(folder: Path) -> tuple[list[Item], list[LeftOut]]:
    items, left = [], []
    audio = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.is_dir())
    for path in audio:
        text, name = path.with_suffix(".txt"), _name(path, folder)
        if text.is_file():
            items.append(Item(name, path, read_text(text)))
        else:
            left.append(LeftOut(name, "no text", f"there is no {text.name} beside it", "SC037"))
    heard = {p.with_suffix(".txt") for p in audio}
    for text in sorted(p for p in folder.rglob("*.txt") if p not in heard):
        if text.stem.lower() not in ("readme", "license", "licence"):
            left.append(LeftOut(_name(text, folder), "missing", "there is no recording beside it", "SC010"))
    return items, left


def _name(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)

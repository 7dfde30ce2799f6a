"""Recordings with texts: lists in JSON lines, and folders with a list or a text beside every recording."""

from __future__ import annotations

import json
from pathlib import Path

from ..ir.errors import UsageError

TEXTS = "texts.jsonl"  # in a folder of recordings: a line {"audio": file, "text": words} each


def texts_in(folder: Path) -> list[tuple[Path, str]]:
    """(recording, text) of every line of `texts.jsonl` in a folder; none where there is no such file.

    Raises `UsageError` SC037 for lines that are something else.
    """
    return listed(folder / TEXTS) if (folder / TEXTS).is_file() else []


def listed(path: Path, root: Path | None = None) -> list[tuple[Path, str]]:
    """(recording, text) of every line of a list; recordings lie in `root` (by default the list's own folder).

    Raises `UsageError` SC037 for a line that is something else, and for a file that is not text.
    """
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            audio, text = entry["audio"], entry["text"]
        except (ValueError, KeyError, TypeError):
            audio = text = None
        if not isinstance(audio, str) or not isinstance(text, str):
            raise UsageError(
                "SC037", f'{path}, line {number}: not {{"audio": file, "text": words}}', hints=["one object a line"]
            )
        found.append(((root or path.parent) / audio, text))
    return found


def read_text(path: Path) -> str:
    """The text in a file (UTF-8, with or without a mark). Raises `UsageError` SC037 where it is not text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("SC037", f"{path} is not text (UTF-8)") from None

"""Every utterance of an evaluation in a file of JSON lines, for other tools."""

from __future__ import annotations

import json
from pathlib import Path

from .evaluation import Evaluation


def write_transcripts(found: Evaluation, path: Path) -> None:
    """Write the texts and errors of every utterance (through a temporary name)."""
    lines = [json.dumps(u.as_dict(), ensure_ascii=False) for u in found.utterances]
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    temporary.replace(path)

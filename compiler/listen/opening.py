"""Opens what lies at a path with the listener of its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...ir.errors import UsageError
from .listener import KINDS, Listener
from .source import read_source


def open_listener(path: str | Path, threads: int | None = None, **decoding: Any) -> Listener:
    """The listener for a file with a manifest, or for a folder (or its `bundle.json`) with several.

    `threads` are those of the runtime; `decoding` the options of the kind, such as `threshold=0.5` (None counts as not
    given). Raises `UsageError`: SC010 and SC036 for what is not there, SC053 for an option that the kind does not have,
    SC054 for a bundle of no known kind.
    """
    source = read_source(Path(path))
    given = {name: value for name, value in decoding.items() if value is not None}
    if source.kind is not None:
        if source.kind not in KINDS:
            raise UsageError("SC054", f"{path} is of kind {source.kind}; known are {', '.join(KINDS)}")
        return KINDS[source.kind](source, threads, **given)
    kind = next((k for k in KINDS.values() if k.fits(source, given)), KINDS["outputs"])
    return kind(source, threads, **given)

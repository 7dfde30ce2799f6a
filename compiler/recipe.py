"""How a file was made, as its manifest keeps it: the settings that shaped the graph, the calibration's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..ir.turns import calls_in
from .samples import Feeds
from .settings import Settings
from .streaming import Streaming

# Where a result goes, and what is looked at on the way, leave no trace in the file.
ELSEWHERE = ("calibration", "output", "name", "min_snr", "verify_each", "print_after", "dump", "limit", "streaming")


def recipe(settings: Settings, precision: str, samples: Sequence[Feeds]) -> dict[str, Any]:
    """Plain data for the manifest: version, settings other than the defaults, number and digest of the samples."""
    plain = Settings()
    own = {f.name: getattr(settings, f.name) for f in fields(Settings) if f.name not in ELSEWHERE}
    made = {n: v for n, v in own.items() if n in ("target", "precision") or v != getattr(plain, n)}
    streaming = {n: v for n, v in asdict(settings.streaming).items() if v != getattr(plain.streaming, n)}
    made = {n: str(v) if isinstance(v, Path) else v for n, v in made.items()} | {"precision": precision}
    made |= {"streaming": streaming} if streaming else {}
    return {"speechc": __version__, **made, **({"calibration": digest(samples)} if samples else {})}


def settings_of(made: Mapping[str, Any], calibration: Any, folder: Path) -> Settings:
    """The settings that a recipe stands for; results go to `folder`. A name that this version lacks is left out."""
    known = {f.name for f in fields(Settings)} - set(ELSEWHERE)
    own = {n: v for n, v in made.items() if n in known}
    return replace(
        Settings(**own), calibration=calibration, output=folder, streaming=Streaming(**made.get("streaming", {}))
    )


def digest(samples: Sequence[Feeds]) -> dict[str, Any]:
    """How many samples there are (of several calls: the calls), and a digest of their values in order."""
    seen = hashlib.sha256()
    calls = [feeds for sample in samples for feeds in calls_in(sample)]
    for feeds in calls:
        for name, array in feeds.items():
            seen.update(f"{name} {array.dtype} {array.shape}".encode())
            seen.update(np.ascontiguousarray(array).tobytes())
    return {"samples": len(calls), "sha256": seen.hexdigest()[:16]}

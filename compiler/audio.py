"""Reads audio and arrays from files, for calibration and for running models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..ir.errors import UsageError
from .recordings import SUFFIXES, read_recording


def read_audio(path: Path, rate: int | None) -> np.ndarray:
    """Mono samples, float32 in [-1, 1], at `rate` Hz (resampled with soxr; the file's own rate if None).

    Raises `UsageError` as `read_recording`, and SC056 for a recording that is cut off.
    """
    recording = read_recording(path, rate)
    if note := next((n for n in recording.notes if n.kind == "cut off"), None):
        raise UsageError("SC056", f"{path} is cut off: {note.text}", hints=["leave it out, or mend its header"])
    return recording.samples


def read_arrays(path: Path) -> dict[str, np.ndarray] | np.ndarray:
    """Arrays by name from `.npz`, one array from `.npy`. Raises `UsageError` SC030 for a file that is damaged."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found as arrays:
            return dict(arrays)
    except (ValueError, EOFError, OSError, BadZipFile) as error:
        raise UsageError("SC030", f"{path} holds no arrays that can be read ({error})") from None


def read_samples(folder: Path, rate: int | None) -> Iterator[dict[str, np.ndarray] | np.ndarray]:
    """Every sample in a folder: `.npz` gives arrays by input name, `.npy` one array, audio [1, samples]."""
    if not folder.exists():
        raise UsageError("SC033", f"{folder} does not exist")
    paths = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    known = [p for p in paths if p.suffix.lower() in (*SUFFIXES, ".npy", ".npz")]
    if not known:
        raise UsageError("SC033", f"{folder} holds no samples ({', '.join(SUFFIXES)}, .npy or .npz)")
    for path in known:
        if path.suffix.lower() in (".npy", ".npz"):
            yield read_arrays(path)
        else:
            if rate is None:
                raise UsageError(
                    "SC034", "the model does not say its sample rate", hints=["--sample-rate HZ, or .npz samples"]
                )
            yield read_audio(path, rate)[None]

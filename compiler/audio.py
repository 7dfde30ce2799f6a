"""Reads audio and arrays from files, for calibration and for running models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np

from ..ir.errors import SpeechcError, UsageError
from .recordings import SUFFIXES, LeftOut, Note, Recording, Summary, left_out, read_recording

ARRAYS = (".npy", ".npz")
UNFIT = ("SC110", "SC111", "SC112")  # other inputs, another rank or type, another size than the model takes
Sample = dict[str, np.ndarray] | np.ndarray
T = TypeVar("T")


def read_audio(path: Path, rate: int | None) -> np.ndarray:
    """Mono samples, float32 in [-1, 1], at `rate` Hz (resampled with soxr; the file's own rate if None).

    Raises `UsageError` as `read_recording`, and SC056 for a recording that is cut off.
    """
    return _whole(path, rate, str(path)).samples


def read_arrays(path: Path, name: str | None = None) -> Sample:
    """Arrays by name from `.npz`, one array from `.npy`. Raises `UsageError` SC030 for a file that is damaged."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found as arrays:
            return dict(arrays)
    except (ValueError, EOFError, OSError, BadZipFile) as error:
        raise UsageError("SC030", f"{name or path} holds no arrays that can be read ({error})") from None


def samples_in(source: Path) -> list[Path]:
    """The recordings and arrays in a folder and those below it, by name; a file alone. Raises `UsageError` SC033."""
    if not source.exists():
        raise UsageError("SC033", f"{source} does not exist")
    if not source.is_dir():
        return [source]
    kinds = (*SUFFIXES, *ARRAYS)
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in kinds and not p.is_dir())
    if not found:
        raise UsageError("SC033", f"{source} holds no samples ({', '.join(SUFFIXES)}, .npy or .npz)")
    return found


def read_samples(
    source: Path,
    rate: int | None,
    take: Callable[[str, Sample], T] = lambda name, sample: sample,
    found: Summary | None = None,
    order: Iterable[Path] | None = None,
) -> Iterator[T]:
    """What `take` makes of every sample (of its name, and of it): `.npz` gives arrays by input name, `.npy` one array,
    audio [1, samples].

    Of a folder, what cannot be read, is cut off, or is refused by `take` is left out; `found` counts it, and has the
    notes on the others. `order`: the files of the folder, where not all are wanted, or not by name.

    Raises `UsageError`: SC033 for a folder without samples, SC034 for audio where the rate is not known, SC057 where
    nothing is left of a folder; for a file alone what is wrong with it.
    """
    found = Summary() if found is None else found
    for path in samples_in(source) if order is None else order:
        name = str(path.relative_to(source)) if source.is_dir() else str(path)
        found.recordings += 1
        try:
            sample, notes = read_sample(path, rate, name)
            taken = take(name, sample)
        except SpeechcError as error:
            if not source.is_dir():
                raise
            found.left_out.append(_unfit(path, name, error))
            continue
        found.notes += [(name, note) for note in notes]
        yield taken
    if not found.used:
        raise found.none_left()


def read_sample(path: Path, rate: int | None, name: str) -> tuple[Sample, list[Note]]:
    """The arrays in a file, or audio [1, samples]; and notes on it.

    Raises `UsageError` as `read_audio` and `read_arrays`, SC032 for arrays with NaN, SC034 where the rate is not known.
    """
    if path.suffix.lower() in ARRAYS:
        sample = read_arrays(path, name)
        floats = [a for a in (sample.values() if isinstance(sample, dict) else [sample]) if a.dtype.kind == "f"]
        if any(np.isnan(a).any() for a in floats):
            raise UsageError("SC032", f"{name} holds NaN")
        silent = floats and not any(a.any() for a in floats)
        return sample, [Note("silent", "all values are 0")] if silent else []
    if rate is None:
        raise UsageError("SC034", "the model does not say its sample rate", hints=["--sample-rate HZ, or .npz samples"])
    recording = _whole(path, rate, name)
    return recording.samples[None], recording.notes


def _whole(path: Path, rate: int | None, name: str) -> Recording:
    recording = read_recording(path, rate, name)
    if note := next((n for n in recording.notes if n.kind == "cut off"), None):
        raise UsageError("SC056", f"{name} is cut off: {note.text}", hints=["leave it out, or mend its header"])
    return recording


def _unfit(path: Path, name: str, error: SpeechcError) -> LeftOut:
    """Why a sample is left out. Raises the error where others would have it too: audio for a model of two inputs."""
    if error.code in UNFIT and (error.code == "SC112" or path.suffix.lower() in ARRAYS):
        return LeftOut(name, "does not fit the model", error.message, error.code)
    why = left_out(name, error)
    return replace(why, kind="damaged") if why.code == "SC030" and path.suffix.lower() in ARRAYS else why

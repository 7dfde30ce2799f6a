"""Reads audio and arrays from files, for calibration and for running models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..ir.errors import UsageError
from ..lowering.target import needs

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def read_audio(path: Path, rate: int | None) -> np.ndarray:
    """Mono samples, float32 in [-1, 1], at `rate` Hz (resampled with soxr; the file's own rate if None)."""
    soundfile = needs("soundfile", "audio")
    try:
        samples, own = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise UsageError("SC030", f"{path} is not audio that can be read ({error})") from None
    if not len(samples):
        raise UsageError("SC031", f"{path} holds no samples")
    mono = samples.mean(1)
    if rate is not None and own != rate:
        mono = needs("soxr", "audio").resample(mono, own, rate)
    if not np.isfinite(mono).all():
        raise UsageError("SC032", f"{path} holds NaN or infinite samples")
    return np.ascontiguousarray(mono, np.float32)


def read_samples(folder: Path, rate: int | None) -> Iterator[dict[str, np.ndarray] | np.ndarray]:
    """Every sample in a folder: `.npz` gives arrays by input name, `.npy` one array, audio [1, samples]."""
    if not folder.exists():
        raise UsageError("SC033", f"{folder} does not exist")
    paths = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    known = [p for p in paths if p.suffix.lower() in (*SUFFIXES, ".npy", ".npz")]
    if not known:
        raise UsageError("SC033", f"{folder} holds no samples ({', '.join(SUFFIXES)}, .npy or .npz)")
    for path in known:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                yield dict(arrays)
        elif path.suffix == ".npy":
            yield np.load(path, allow_pickle=False)
        else:
            if rate is None:
                raise UsageError(
                    "SC034", "the model does not say its sample rate", hints=["--sample-rate HZ, or .npz samples"]
                )
            yield read_audio(path, rate)[None]

"""How far two results are apart: largest error relative to the largest value, and signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """`error` = max|Δ| / max|reference|; `snr` in dB; both over all outputs, worst output counts."""

    error: float
    snr: float

    def as_dict(self) -> dict[str, float | None]:
        """Plain data for JSON, which has no infinity: null is an SNR without noise, or an error without bound."""
        return {k: v if np.isfinite(v) else None for k, v in (("error", self.error), ("snr", self.snr))}

    def __str__(self) -> str:
        return f"largest error {self.error:.1e}, SNR {self.snr:.1f} dB"


def difference(actual: Iterable[np.ndarray], reference: Iterable[np.ndarray]) -> Difference:
    """Compare outputs pairwise. Shapes must agree; NaN where the reference has none is an infinite error."""
    error, snr = 0.0, float("inf")
    for a, r in zip(actual, reference, strict=True):
        one = _pair(np.asarray(a), np.asarray(r))
        error, snr = max(error, one.error), min(snr, one.snr)
    return Difference(error, snr)


def _pair(actual: np.ndarray, reference: np.ndarray) -> Difference:
    if actual.shape != reference.shape:
        return Difference(float("inf"), float("-inf"))
    if actual.size == 0:
        return Difference(0.0, float("inf"))
    a, r = actual.astype(np.float64), reference.astype(np.float64)
    alike = (a == r) | (np.isnan(a) & np.isnan(r))
    if not np.isfinite(np.where(alike, 0, a - r)).all():
        return Difference(float("inf"), float("-inf"))
    with np.errstate(invalid="ignore"):
        delta = np.where(alike, 0.0, a - r)
    finite = np.where(np.isfinite(r), r, 0.0)
    largest, noise = np.abs(finite).max(), float((delta**2).sum())
    error = np.abs(delta).max() / largest if largest else np.abs(delta).max()
    snr = (
        10 * np.log10(float((finite**2).sum()) / noise)
        if noise and largest
        else (float("inf") if not noise else -np.inf)
    )
    return Difference(float(error), float(snr))

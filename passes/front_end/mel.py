"""Mel scales and the triangles of a filterbank: HTK's, Slaney's and Kaldi's, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Hz = np.ndarray | float


def htk(hz: Hz) -> Hz:
    """2595 log10(1 + f / 700) (Young et al., The HTK Book)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)


def htk_back(mel: Hz) -> Hz:
    """The frequency of a pitch on HTK's scale."""
    return 700.0 * (10.0 ** (np.asarray(mel) / 2595.0) - 1.0)


LINE, KNEE, OCTAVE = 200.0 / 3, 1000.0, np.log(6.4) / 27.0


def slaney(hz: Hz) -> Hz:
    """3 f / 200 up to 1 kHz, 27 steps for every factor of 6.4 above (Slaney 1998, Auditory Toolbox)."""
    hz = np.asarray(hz, np.float64)
    return np.where(hz < KNEE, hz / LINE, KNEE / LINE + np.log(np.maximum(hz, KNEE) / KNEE) / OCTAVE)


def slaney_back(mel: Hz) -> Hz:
    """The frequency of a pitch on Slaney's scale."""
    mel = np.asarray(mel, np.float64)
    above = np.maximum(mel - KNEE / LINE, 0.0)
    return np.where(mel < KNEE / LINE, mel * LINE, KNEE * np.exp(OCTAVE * above))


def kaldi(hz: Hz) -> Hz:
    """1127 ln(1 + f / 700) (Kaldi, mel-computations.h)."""
    return 1127.0 * np.log(1.0 + np.asarray(hz) / 700.0)


SCALES: dict[str, tuple[Callable[[Hz], Hz], Callable[[Hz], Hz]]] = {
    "htk": (htk, htk_back),
    "slaney": (slaney, slaney_back),
}


def triangles_in_hz(bins: int, at: np.ndarray, low: float, high: float, scale: str, norm: str) -> np.ndarray:
    """Triangles that are straight over frequency, [bins, lines]: librosa's, torchaudio's and Whisper's.

    `at` are the frequencies of the lines; `norm` "slaney" gives every triangle the area of 1, "none" the height of 1.
    """
    there, back = SCALES[scale]
    edges = back(np.linspace(there(low), there(high), bins + 2))
    steps = np.diff(edges)
    slopes = edges[:, None] - at[None]
    bank = np.maximum(0.0, np.minimum(-slopes[:-2] / steps[:-1, None], slopes[2:] / steps[1:, None]))
    if norm == "slaney":
        bank *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return bank


def triangles_in_mel(bins: int, lines: int, sample_rate: int, low: float, high: float) -> np.ndarray:
    """Triangles that are straight over mel, [bins, lines]: Kaldi's; the line at half the sample rate is in none."""
    at = kaldi(np.linspace(0, sample_rate / 2, lines))
    edges = np.linspace(kaldi(low), kaldi(high), bins + 2)
    left, centre, right = (edges[i : bins + i, None] for i in range(3))
    bank = np.where(at <= centre, (at - left) / (centre - left), (right - at) / (right - centre))
    bank = np.where((at > left) & (at < right), bank, 0.0)
    bank[:, -1] = 0.0
    return bank


def cosines(bins: int, count: int) -> np.ndarray:
    """The first `count` rows of the orthonormal DCT-II of `bins` numbers, [count, bins] (Ahmed et al. 1974)."""
    k, n = np.arange(count)[:, None], np.arange(bins)[None]
    rows = np.sqrt(2.0 / bins) * np.cos(np.pi / bins * (n + 0.5) * k)
    rows[0] = np.sqrt(1.0 / bins)
    return rows

"""Windows of a frame, and the discrete Fourier transform as a matrix of complex numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Angle = np.ndarray

# Of an angle that goes once round from the first sample of a window to its last.
SHAPES: dict[str, Callable[[Angle], np.ndarray]] = {
    "hann": lambda a: 0.5 - 0.5 * np.cos(a),
    "hamming": lambda a: 0.54 - 0.46 * np.cos(a),
    "blackman": lambda a: 0.42 - 0.5 * np.cos(a) + 0.08 * np.cos(2 * a),
    "povey": lambda a: (0.5 - 0.5 * np.cos(a)) ** 0.85,
    "sine": lambda a: np.sin(a / 2),
    "rectangular": np.ones_like,
}


def window(shape: str, size: int, periodic: bool) -> np.ndarray:
    """A window of `size` samples; `periodic`: one period of an endless row (its first sample comes again behind it)."""
    return SHAPES[shape](2 * np.pi * np.arange(size) / (size if periodic else size - 1))


def fourier(samples: int, points: int, shift: int = 0) -> np.ndarray:
    """The lines 0 to points / 2 of the DFT over `points` of a frame of `samples`, complex128 [lines, samples].

    The samples stand from place `shift` on, zeros fill up the rest; where is of no matter to power.
    """
    k, n = np.arange(points // 2 + 1)[:, None], shift + np.arange(samples)[None]
    return np.exp(-2j * np.pi * ((k * n) % points) / points)


def without_mean(size: int) -> np.ndarray:
    """The matrix that takes the mean of a frame away (Kaldi's remove-dc-offset)."""
    return np.eye(size) - 1.0 / size


def emphasis(size: int, factor: float) -> np.ndarray:
    """The matrix of y[i] = x[i] - factor x[i - 1] inside a frame, where x[-1] is x[0] (Kaldi's preemphasis)."""
    made = np.eye(size) - factor * np.eye(size, k=-1)
    made[0, 0] -= factor
    return made

"""How sure error rates are: bootstrap over utterances (Bisani & Ney 2004).

M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES, LEVEL = 1000, 0.95
AT_ONCE = 2_000_000  # numbers drawn in one go


def resampled_rates(
    errors: Sequence[Sequence[int]], lengths: Sequence[int], resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Error rates float64[files, resamples] of sets of utterances drawn with replacement, as many as there are.

    `errors` int[files, utterances], `lengths` words of each reference. All files see the same draws (section 4 of the
    paper: only so the difference of two systems can be judged). A draw of references without words is NaN.
    """
    wrong, words = np.asarray(errors, np.float64), np.asarray(lengths, np.float64)
    random, n, parts = np.random.default_rng(seed), len(words), []
    for first in range(0, resamples, step := max(1, AT_ONCE // n)):
        times = random.multinomial(n, np.full(n, 1 / n), size=min(step, resamples - first))
        with np.errstate(invalid="ignore"):
            parts.append(wrong @ times.T / (times @ words))
    return np.concatenate(parts, 1)


def interval(rates: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval that holds `level` of the resamples (Bisani & Ney 2004, section 3)."""
    low, high = np.nanquantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """A file against the first on the same utterances: the difference of their rates (above 0: worse).

    `better` and `worse` are the shares of resamples in which it is so ("probability of improvement", Bisani & Ney 2004,
    section 4), `p` the chance of so large a difference, either way, where there is none (Efron & Tibshirani 1993,
    chapter 15: twice the smaller tail, itself counted in).
    """

    difference: float
    interval: tuple[float, float]
    better: float
    worse: float
    p: float

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "difference": self.difference,
            "interval": list(self.interval),
            "better": self.better,
            "worse": self.worse,
            "p": self.p,
        }


def paired(difference: float, first: np.ndarray, other: np.ndarray, level: float = LEVEL) -> Paired:
    """The test from the resampled rates of both, float64[resamples] each, of the same draws."""
    deltas = other - first
    deltas = deltas[~np.isnan(deltas)]
    tails = [int((deltas <= 0).sum()), int((deltas >= 0).sum())]
    p = min(1.0, 2 * (min(tails) + 1) / (len(deltas) + 1))
    better, worse = float((deltas < 0).mean()), float((deltas > 0).mean())
    return Paired(difference, interval(deltas, level), better, worse, p)

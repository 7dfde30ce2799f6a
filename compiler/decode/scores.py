"""Log-probabilities of the classes from what a model gives: scores, log-probabilities or probabilities, or integers."""

from __future__ import annotations

import numpy as np

from .prefix import log_softmax

NEAR = 0.05  # how far from 1 the probabilities of a frame may add up, in 8 bits


class LogProbabilities:
    """Rows of classes as log-probabilities, float64.

    What the first frames show holds for all: rows that are nowhere negative and add up to 1 are probabilities; any
    others are normalised by a log-softmax, which leaves log-probabilities as they are. `quant` is (scale, zero point)
    of integers.
    """

    def __init__(self, quant: tuple[float, int] | None = None):
        self.quant, self.probabilities = quant, None

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[frames, classes] as log-probabilities."""
        rows = np.asarray(rows, np.float64)
        if self.quant is not None:
            rows = (rows - self.quant[1]) * self.quant[0]
        if self.probabilities is None and len(rows):
            self.probabilities = bool((rows >= 0).all() and (abs(rows.sum(-1) - 1) < NEAR).all())
        if not self.probabilities:
            return log_softmax(rows)
        with np.errstate(divide="ignore"):
            return np.log(rows / rows.sum(-1, keepdims=True))

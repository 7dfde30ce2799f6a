"""The last seconds of a recording, by their place in it."""

from __future__ import annotations

import numpy as np


class History:
    """Keeps the last `size` samples; places count from the start of the recording."""

    def __init__(self, size: int):
        self.size, self.end = size, 0
        self.kept = np.zeros(0, np.float32)

    def add(self, samples: np.ndarray) -> None:
        """Take in samples."""
        self.kept = np.concatenate([self.kept, samples])[-max(self.size, len(samples)) :]
        self.end += len(samples)

    @property
    def start(self) -> int:
        """The first place that is kept."""
        return self.end - len(self.kept)

    def since(self, place: int) -> np.ndarray:
        """The samples from `place` (one that is kept) on."""
        return self.kept[place - self.start :].copy()

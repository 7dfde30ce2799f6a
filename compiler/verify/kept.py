"""Arrays kept for later, in memory up to a limit and in a folder beyond it."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import numpy as np

IN_MEMORY = 512_000_000  # bytes


class Kept:
    """Arrays by key; those that came after `IN_MEMORY` bytes lie in `folder`."""

    def __init__(self, folder: Path):
        self.folder, self.bytes = folder, 0
        self._arrays: dict[Hashable, np.ndarray | Path] = {}

    def get(self, key: Hashable) -> np.ndarray | None:
        """The array of a key; None where there is none."""
        found = self._arrays.get(key)
        return np.load(found) if isinstance(found, Path) else found

    def __setitem__(self, key: Hashable, array: np.ndarray) -> None:
        self.bytes += array.nbytes
        if self.bytes <= IN_MEMORY:
            self._arrays[key] = np.array(array)
            return
        path = self.folder / f"value-{len(self._arrays)}.npy"
        np.save(path, array)
        self._arrays[key] = path

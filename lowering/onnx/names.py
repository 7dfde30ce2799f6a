"""Unique ONNX names from module paths: `encoder.layers.3.conv` and Conv give `/encoder/layers.3/conv/Conv`."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=4096)
def folder(path: str) -> str:
    """A module path as PyTorch's exporter writes it: numbers stay with the list that they index."""
    out = ""
    for part in path.split(".") if path else ():
        out += f".{part}" if part.isdigit() and out else f"/{part}"
    return out


class Names:
    """Names given so far; a name that is taken gets a number behind it."""

    def __init__(self):
        self._taken: dict[str, int] = {}

    def claim(self, name: str) -> str:
        """`name` itself, or `name_1`, `name_2`, …, whichever is free."""
        if name not in self._taken:
            self._taken[name] = 0
            return name
        while True:
            self._taken[name] += 1
            other = f"{name}_{self._taken[name]}"
            if other not in self._taken:
                self._taken[other] = 0
                return other

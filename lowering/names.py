"""Names that are given once."""

from __future__ import annotations


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

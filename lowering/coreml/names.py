"""Names that MIL takes: letters, digits and underscores, each once, and none that its grammar keeps for itself."""

from __future__ import annotations

import re

RESERVED = frozenset(("any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string"))
RESERVED |= {"state", "bf16", *(f"{kind}{bits}" for kind in ("fp", "int", "uint") for bits in (8, 16, 32, 64))}


def plain(name: str) -> str:
    """`name` in the characters that MIL takes."""
    made = re.sub(r"[^A-Za-z0-9_]", "_", name) or "value"
    made = f"{made}_" if made in RESERVED else made
    return made if re.match("[A-Za-z]", made) else f"v{made}"


class Names:
    """Names given so far; a name that is taken gets a number behind it."""

    def __init__(self):
        self._taken: dict[str, int] = {}

    def claim(self, name: str) -> str:
        """`name` as MIL takes it, or that with `_1`, `_2`, … behind, whichever is free."""
        name = plain(name)
        if name not in self._taken:
            self._taken[name] = 0
            return name
        while True:
            self._taken[name] += 1
            other = f"{name}_{self._taken[name]}"
            if other not in self._taken:
                self._taken[other] = 0
                return other

"""Names that MIL takes: letters, digits and underscores, each once, and none that its grammar keeps for itself."""

from __future__ import annotations

import re

from ..names import Names

RESERVED = frozenset(("any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string"))
RESERVED |= {"state", "bf16", *(f"{kind}{bits}" for kind in ("fp", "int", "uint") for bits in (8, 16, 32, 64))}


def plain(name: str) -> str:
    """`name` in the characters that MIL takes."""
    made = re.sub(r"[^A-Za-z0-9_]", "_", name) or "value"
    made = f"{made}_" if made in RESERVED else made
    return made if re.match("[A-Za-z]", made) else f"v{made}"


class PlainNames(Names):
    """Names given so far, as MIL takes them."""

    def claim(self, name: str) -> str:
        """`name` in MIL's characters, or that with `_1`, `_2`, … behind, whichever is free."""
        return super().claim(plain(name))

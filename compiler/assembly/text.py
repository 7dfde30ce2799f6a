"""The text of tokens, by how a tokenizer spells: byte-level BPE, or as lists of tokens do (see `words.spelled`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from ..words import spelled

BYTES = "byte-level"


def text_of(numbers: Iterable[int], tokens: Sequence[str], spelling: str = "plain") -> str:
    """The text of tokens by number; numbers beyond the list have none."""
    known = [n for n in numbers if 0 <= n < len(tokens)]
    if spelling != BYTES:
        return spelled(known, tokens)
    letters = _bytes()
    written = "".join(tokens[n] for n in known)
    return bytes(letters[c] for c in written if c in letters).decode("utf-8", errors="replace").strip()


@cache
def _bytes() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for (Radford et al. 2019, GPT-2).

    Printable bytes stand for themselves, the others for the letters from U+0100 on.
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}

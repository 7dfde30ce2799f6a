"""The text of tokens, by how a tokenizer spells: byte-level BPE, sentence pieces, or plain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

SPELLINGS: dict[str, Callable[[list[str]], str]] = {}


def spelling(name: str):
    """Register how texts of tokens become one text."""

    def add(join: Callable[[list[str]], str]) -> Callable[[list[str]], str]:
        SPELLINGS[name] = join
        return join

    return add


def text_of(numbers: Iterable[int], tokens: Sequence[str], how: str = "plain") -> str:
    """The text of tokens by number; numbers beyond the list have none."""
    return SPELLINGS[how]([tokens[n] for n in numbers if 0 <= n < len(tokens)])


@cache
def _bytes() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for (Radford et al. 2019, GPT-2).

    Printable bytes stand for themselves, the others for the letters from U+0100 on.
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


@spelling("byte-level")
def _(texts: list[str]) -> str:
    letters = _bytes()
    return bytes(letters[c] for c in "".join(texts) if c in letters).decode("utf-8", errors="replace").strip()


@spelling("pieces")
def _(texts: list[str]) -> str:
    return "".join(texts).replace("\u2581", " ").strip()


@spelling("plain")
def _(texts: list[str]) -> str:
    return " ".join(texts)

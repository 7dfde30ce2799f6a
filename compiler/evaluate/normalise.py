"""Ways to make texts comparable before they are counted: by name, and extendable by `normaliser`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from ...ir.errors import UsageError
from ...lowering.target import needs

Normalise = Callable[[str], str]
WAYS: dict[str, Callable[[], Normalise]] = {}


def way(name: str) -> Callable[[Callable[[], Normalise]], Callable[[], Normalise]]:
    """Register a maker of a normaliser."""

    def add(make: Callable[[], Normalise]) -> Callable[[], Normalise]:
        WAYS[name] = make
        return make

    return add


def normaliser(name: str) -> Normalise:
    """The normaliser called `name`. Raises `UsageError` SC017 for another name, `MissingError` for its package."""
    if name not in WAYS:
        raise UsageError("SC017", f"--normalise-text {name}: one of {', '.join(WAYS)}")
    return WAYS[name]()


@way("plain")
def _plain() -> Normalise:
    return plain


@way("whisper")
def _whisper() -> Normalise:
    """Whisper's English one (Radford et al. 2022, appendix C): spelling, contractions, numbers, fillers."""
    return needs("whisper_normalizer.english", "audio").EnglishTextNormalizer()


@way("none")
def _none() -> Normalise:
    return lambda text: " ".join(text.split())


def plain(text: str) -> str:
    """Lower case, no punctuation but apostrophes inside words, single spaces (after Unicode NFKC); any language."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    kept = []
    for i, c in enumerate(text):
        inside = c == "'" and text[i - 1 : i].isalnum() and text[i + 1 : i + 2].isalnum()
        # letters, marks and digits of any script are words; symbols such as % and + are said, and stay
        kept.append(c if inside or unicodedata.category(c)[0] in "LMN" or c in "%+&$\u20ac\u00a3" else " ")
    return " ".join("".join(kept).split())

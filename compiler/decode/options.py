"""The options of a search, as commands and `open_listener` take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...ir.errors import UsageError
from .arpa import NGrams, open_lm
from .bias import BOOST, Bias, read_phrases
from .fusion import TokenFusion, WordFusion
from .number import number
from .prefix import Scorer
from .vocabulary import Vocabulary

BEAM = 8  # hypotheses, where a language model or a bias is given and no number
UNITS = ("word", "token")
NUMBERS = {"beam": int, "best": int, "lm_weight": float, "word_bonus": float, "floor": float}


@dataclass(frozen=True)
class Decoding:
    """How to search. `beam`: hypotheses that are kept (None: greedy, unless something is fused).

    `lm`: an n-gram model (ARPA, or kenlm's), whose log-probabilities count `lm_weight` times; `lm_unit`: "word", or
    "token" for a model over the tokens themselves. `word_bonus` is added for every word (token). `bias`: files of
    phrases, one a line, each `PATH` or `PATH=BOOST`, a natural logarithm a letter. `best`: how many results are told.
    `floor`: of a frame, tokens less likely than its likeliest by more than this logarithm are left out (CTC; None: none
    are). Large vocabularies with a model over tokens want one, such as 10.
    """

    beam: int | None = None
    lm: str | Path | None = None
    lm_weight: float = 0.5
    lm_unit: str = "word"
    word_bonus: float = 0.0
    bias: str | Sequence[str] = ()
    best: int = 1
    floor: float | None = None

    @staticmethod
    def of(options: Mapping[str, Any]) -> Decoding:
        """From options by name. Raises `UsageError` SC090 for a value that makes no sense."""
        given = {name: options[name] for name in NAMES if options.get(name) is not None}
        given |= {name: number(name, given[name], kind) for name, kind in NUMBERS.items() if name in given}
        given |= {name: str(given[name]) for name in ("lm", "lm_unit") if name in given}
        if isinstance(given.get("bias"), int | float):
            given["bias"] = str(given["bias"])
        made = Decoding(**given)
        for name in ("beam", "best"):
            value = getattr(made, name)
            if value is not None and value < 1:
                raise UsageError("SC090", f"{name} {value}: 1 or more")
        if made.lm_unit not in UNITS:
            raise UsageError("SC090", f"lm_unit {made.lm_unit}: one of {', '.join(UNITS)}")
        if made.lm is None and options.get("lm_weight") is not None:
            raise UsageError("SC090", "a weight of a language model, but no model", hints=["--lm FILE"])
        return made

    @property
    def width(self) -> int | None:
        """Hypotheses to keep; None: greedy."""
        if self.beam is None and (self.lm is not None or self.bias or self.word_bonus or self.best > 1):
            return max(BEAM, self.best)
        return self.beam

    def scorers(self, vocabulary: Vocabulary) -> list[Scorer]:
        """What is fused, for a model with these tokens. Raises as `open_lm`, `Bias` and `biased`."""
        found: list[Scorer] = []
        model: NGrams | None = None if self.lm is None else open_lm(self.lm)
        if model is not None and self.lm_unit == "token":
            found.append(TokenFusion(model, vocabulary, self.lm_weight, self.word_bonus))
        elif model is not None or self.word_bonus:
            found.append(WordFusion(model, vocabulary, self.lm_weight, self.word_bonus))
        given = [self.bias] if isinstance(self.bias, (str, Path)) else self.bias
        return [*found, *(biased(str(text), vocabulary) for text in given)]


NAMES = tuple(f.name for f in fields(Decoding))


def biased(text: str, vocabulary: Vocabulary) -> Bias:
    """The bias of `PATH` or `PATH=BOOST`.

    Raises `UsageError` SC010 for a file that is not there, SC090 for a boost that is no number, SC093 for a file
    without phrases, or with one that the tokens cannot spell.
    """
    path, _, given = text.rpartition("=") if "=" in text and not Path(text).exists() else (text, "", "")
    boost = number(f"{path}: a boost of", given) if given else BOOST
    if not Path(path).is_file():
        raise UsageError("SC010", f"{path} does not exist, or is no file")
    try:
        phrases = read_phrases(Path(path).read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError:
        raise UsageError("SC093", f"{path} is no text") from None
    if not phrases:
        raise UsageError("SC093", f"{path} has no phrases")
    return Bias(phrases, vocabulary, boost)

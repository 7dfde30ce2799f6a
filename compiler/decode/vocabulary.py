"""How tokens spell words: which list of tokens marks its spaces, and the letters that each token adds."""

from __future__ import annotations

from collections.abc import Sequence

from ..words import BLANKS, SPACES, spelled

SILENT = (*BLANKS, "<s>", "</s>", "<unk>", "[UNK]", "[CLS]", "[SEP]", "<sos/eos>")  # tokens that spell nothing
SPACE = " "


class Vocabulary:
    """The tokens of a model as text.

    Lists that mark the space between words (`▁the`, `|`, a plain space) spell words piece by piece; in others every
    token is a word. `spelled[t]` is what token t adds to the text, with plain spaces; a space behind a space adds
    nothing, and the text begins and ends at one.
    """

    def __init__(self, tokens: Sequence[str], blank: int | None = None):
        self.tokens, self.blank = list(tokens), blank
        self.marked = any(t == SPACE or t.startswith(SPACES) for t in tokens)
        self.spelled = [self._spelled(i, t) for i, t in enumerate(self.tokens)]
        self.letters = set("".join(self.spelled)) - {SPACE}

    def _spelled(self, index: int, token: str) -> str:
        if index == self.blank or token in SILENT:
            return ""
        if not self.marked:
            return f"{SPACE}{token.strip()}{SPACE}"
        for mark in SPACES:
            token = token.replace(mark, SPACE)
        return token

    def text(self, tokens: Sequence[int]) -> str:
        """A sequence of tokens as text, as greedy decoding writes it."""
        return spelled(tokens, self.tokens)

    def cased(self, text: str) -> str:
        """A text in the letters of the tokens: as it is, or in lower or upper case where only that can be spelled."""
        for form in (text, text.lower(), text.upper()):
            if set(form) - {SPACE} <= self.letters:
                return form
        return text

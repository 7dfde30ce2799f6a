"""Language models in a search (shallow fusion): by word, with a bonus for each, or by token."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from .arpa import NGrams
from .prefix import Remembered
from .vocabulary import SPACE, Vocabulary


class Spelling(NamedTuple):
    """Where a hypothesis is: the model's state behind the words that are complete, and the letters of the next."""

    state: Hashable
    word: str


class WordFusion:
    """Adds weight · log p(word | words before) + bonus when a word is complete (Hannun et al. 2014).

    A word is complete at the space behind it, or at the end of the utterance, which adds the model's end of sentence.
    Without a model (None) the bonus is all.
    """

    def __init__(self, model: NGrams | None, vocabulary: Vocabulary, weight: float = 0.5, bonus: float = 0.0):
        self.model, self.vocabulary, self.weight, self.bonus = model, vocabulary, weight, bonus
        spaces = [text.count(SPACE) for text in vocabulary.spelled]
        first = [text.startswith(SPACE) for text in vocabulary.spelled]
        # Most tokens complete nothing, or the word before them alone: then all have the same gain.
        self._inside = np.array([n == 0 for n in spaces])
        self._opening = np.array([n == 1 and f for n, f in zip(spaces, first)])
        self._known: Remembered[tuple[Hashable, str], tuple[float, Hashable]] = Remembered()
        self._moves: Remembered[tuple[Spelling, int], tuple[float, Spelling]] = Remembered()
        self._cased: Remembered[str, str] = Remembered()

    def start(self) -> Spelling:
        """No word yet."""
        return Spelling(None if self.model is None else self.model.start(), "")

    def gains(self, state: Spelling, tokens: np.ndarray) -> np.ndarray:
        """What the words that each token completes add."""
        gained = np.where(self._opening[tokens], self._moves_over(state, SPACE)[0], 0.0)
        for i in np.flatnonzero(~(self._inside | self._opening)[tokens]):
            gained[i] = self._moved(state, int(tokens[i]))[0]
        return gained

    def after(self, state: Spelling, token: int) -> Spelling:
        """The state behind a token."""
        return self._moved(state, token)[1]

    def final(self, state: Spelling) -> float:
        """The last word, and the end of the sentence."""
        gained, state = self._moves_over(state, SPACE)
        return gained if self.model is None else gained + self.weight * self.model.end(state.state)

    def _moved(self, state: Spelling, token: int) -> tuple[float, Spelling]:
        return self._moves.of((state, token), lambda: self._moves_over(state, self.vocabulary.spelled[token]))

    def _moves_over(self, state: Spelling, text: str) -> tuple[float, Spelling]:
        gained, (model, word) = 0.0, state
        for i, part in enumerate(text.split(SPACE)):
            if i and word:
                more, model = self._completed(model, word)
                gained, word = gained + more, ""
            word += part
        return gained, Spelling(model, word)

    def _completed(self, state: Hashable, word: str) -> tuple[float, Hashable]:
        if self.model is None:
            return self.bonus, None
        return self._known.of((state, word), lambda: self._scored(state, word))

    def _scored(self, state: Hashable, word: str) -> tuple[float, Hashable]:
        forms = (word, word.lower(), word.upper())  # as the model writes it
        form = self._cased.of(word, lambda: next((form for form in forms if form in self.model), word))
        likely, after = self.model.next(state, form)
        return self.weight * likely + self.bonus, after


class TokenFusion:
    """Adds weight · log p(token | tokens before) + bonus at every token, for a model over the tokens themselves."""

    SPACES = ("|", "\u2581", "<space>")  # how such a model writes a token that is a space

    def __init__(self, model: NGrams, vocabulary: Vocabulary, weight: float = 0.5, bonus: float = 0.0):
        self.model, self.weight, self.bonus = model, weight, bonus
        space = next((s for s in self.SPACES if s in model), self.SPACES[0])
        self.names = [space if t == SPACE else t for t in vocabulary.tokens]
        self._gains: Remembered[Hashable, np.ndarray] = Remembered(len(self.names))
        self._known: Remembered[tuple[Hashable, int], tuple[float, Hashable]] = Remembered()

    def start(self) -> Hashable:
        """No token yet."""
        return self.model.start()

    def gains(self, state: Hashable, tokens: np.ndarray) -> np.ndarray:
        """What the model gives each token."""
        every = range(len(self.names))
        return self._gains.of(state, lambda: np.array([self._scored(state, t)[0] for t in every]))[tokens]

    def after(self, state: Hashable, token: int) -> Hashable:
        """The state behind a token."""
        return self._moved(state, token)[1]

    def final(self, state: Hashable) -> float:
        """The end of the sentence."""
        return self.weight * self.model.end(state)

    def _moved(self, state: Hashable, token: int) -> tuple[float, Hashable]:
        return self._known.of((state, token), lambda: self._scored(state, token))

    def _scored(self, state: Hashable, token: int) -> tuple[float, Hashable]:
        likely, after = self.model.next(state, self.names[token])
        return self.weight * likely + self.bonus, after

"""Words to listen for: a boost along a trie of their letters, taken back where a word does not complete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ...ir.errors import UsageError
from .prefix import Remembered
from .vocabulary import SPACE, Vocabulary

BOOST = 1.0  # natural logarithm a letter


class Match(NamedTuple):
    """Where a hypothesis is: the node of the longest phrase that may be under way, and which of its letters count.

    `covered` has a bit for each of the last letters, the last lowest: set where a complete phrase covers it already.
    """

    node: int
    covered: int


class Bias:
    """Adds `boost` for every letter that phrases cover.

    The score of a text is `boost` times its letters that lie in a phrase of the list, found between spaces; letters
    count once where phrases overlap, spaces never. While a phrase is under way, its letters count ahead; if it does not
    complete, that is taken back. Phrases are followed in one automaton (Aho and Corasick 1975) over letters, so that
    it does not matter how tokens cut a word. Raises `UsageError` SC093 for a phrase that the tokens cannot spell.
    """

    def __init__(self, phrases: Iterable[str], vocabulary: Vocabulary, boost: float = BOOST):
        self.vocabulary, self.boost = vocabulary, boost
        self.children: list[dict[str, int]] = [{}]
        self.depth, self.ends = [0], [0]  # of a node: letters and spaces to it; the longest phrase that ends there
        for phrase in phrases:
            self._add(phrase)
        self.fail = self._failures()
        # Bits of `covered` at which a node's text has spaces: they never count.
        self.spaces = self._space_bits()
        self._gains: Remembered[Match, np.ndarray] = Remembered(len(vocabulary.spelled))
        self._moves: Remembered[tuple[Match, int], tuple[float, Match]] = Remembered()
        self._begin = self._over(Match(0, 0), SPACE)

    def _add(self, phrase: str) -> None:
        text = SPACE.join(phrase.split())
        if not text:
            return
        form = self.vocabulary.cased(text)
        if missing := sorted(set(form) - {SPACE} - self.vocabulary.letters):
            raise UsageError("SC093", f"no token spells {', '.join(missing)} of {text!r}")
        if not self.vocabulary.marked and (
            missing := [w for w in form.split() if f"{SPACE}{w}{SPACE}" not in self.vocabulary.spelled]
        ):
            raise UsageError("SC093", f"no token is {', '.join(missing)}: this model's tokens are whole words")
        node = 0
        for letter in f"{SPACE}{form}{SPACE}":
            if letter not in self.children[node]:
                self.children[node][letter] = len(self.children)
                self.children.append({})
                self.depth.append(self.depth[node] + 1)
                self.ends.append(0)
            node = self.children[node][letter]
        self.ends[node] = self.depth[node]

    def _failures(self) -> list[int]:
        fail, queue = [0] * len(self.children), [0]
        for node in queue:  # grows as it goes: nodes by depth
            for letter, child in self.children[node].items():
                back = fail[node]
                while back and letter not in self.children[back]:
                    back = fail[back]
                if node:
                    fail[child] = self.children[back].get(letter, 0)
                self.ends[child] = max(self.ends[child], self.ends[fail[child]])
                queue.append(child)
        return fail

    def _space_bits(self) -> list[int]:
        bits, queue = [0] * len(self.children), [0]
        for node in queue:
            for letter, child in self.children[node].items():
                bits[child] = bits[node] << 1 | (letter == SPACE)
                queue.append(child)
        return bits

    def start(self) -> Match:
        """At the space before the text."""
        return self._begin[1]

    def gains(self, state: Match, tokens: np.ndarray) -> np.ndarray:
        """What each token adds, or takes back."""
        spelled = self.vocabulary.spelled
        return self._gains.of(state, lambda: np.array([self._over(state, text)[0] for text in spelled]))[tokens]

    def after(self, state: Match, token: int) -> Match:
        """The state behind a token."""
        return self._moved(state, token)[1]

    def final(self, state: Match) -> float:
        """The space behind the text; what is under way then does not complete."""
        gained, state = self._over(state, SPACE)
        return gained - self.boost * self._ahead(state)

    def _moved(self, state: Match, token: int) -> tuple[float, Match]:
        return self._moves.of((state, token), lambda: self._over(state, self.vocabulary.spelled[token]))

    def _over(self, state: Match, text: str) -> tuple[float, Match]:
        gained = 0.0
        for letter in text:
            more, state = self._letter(state, letter)
            gained += more
        return gained, state

    def _ahead(self, state: Match) -> int:
        """Letters that count ahead: of the phrase under way, and not covered by a complete one."""
        pending = ((1 << self.depth[state.node]) - 1) & ~self.spaces[state.node] & ~state.covered
        return pending.bit_count()

    def _letter(self, state: Match, letter: str) -> tuple[float, Match]:
        node, covered = state
        if letter == SPACE and self.spaces[node] & 1:  # a space behind a space
            return 0.0, state
        before = self._ahead(state)
        while node and letter not in self.children[node]:
            node = self.fail[node]
        node = self.children[node].get(letter, 0)
        # Letters out of the match have been counted or are lost; what completes here covers its own.
        covered, counted = covered << 1, 0
        if ends := self.ends[node]:
            letters = ((1 << ends) - 1) & ~self.spaces[node]
            counted, covered = (letters & ~covered).bit_count(), covered | letters
        after = Match(node, covered & (1 << self.depth[node]) - 1)
        return self.boost * (counted + self._ahead(after) - before), after


def read_phrases(lines: Iterable[str]) -> list[str]:
    """Phrases, one a line; empty lines and those that begin with `#` are none."""
    return [text for line in lines if (text := line.strip()) and not text.startswith("#")]

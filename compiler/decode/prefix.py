"""Hypotheses of a search: a tree of prefixes with one node a prefix, what fused scorers add to each, and results."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol, TypeVar
from weakref import WeakValueDictionary

import numpy as np

NEVER = -np.inf  # the logarithm of no probability
REMEMBERED = 2_000_000  # numbers in a scorer's table before it starts anew: streams have no end


K, V = TypeVar("K", bound=Hashable), TypeVar("V")


class Scorer(Protocol):
    """Adds to the score of a hypothesis, token by token: a language model, a bias. Natural logarithms.

    States are never changed, and are the same for all hypotheses that go on alike. `gains[i]` is what `tokens[i]` adds
    after a state, `after` the state behind it, `final` what the end adds.
    """

    def start(self) -> Hashable:
        """The state before the first token."""

    def gains(self, state: Hashable, tokens: np.ndarray) -> np.ndarray:
        """What each of `tokens` (int [n]) would add: float64 [n]."""

    def after(self, state: Hashable, token: int) -> Hashable:
        """The state behind a token."""

    def final(self, state: Hashable) -> float:
        """What the end of the utterance adds."""


class Remembered(dict[K, V]):
    """What was computed before, by key; forgotten when there is too much of it. `size`: numbers that a value holds."""

    def __init__(self, size: int = 10):
        super().__init__()
        self.most = REMEMBERED // size

    def of(self, key: K, compute: Callable[[], V]) -> V:
        """The value of a key, computed where it is not known."""
        if key not in self:
            if len(self) >= self.most:
                self.clear()
            self[key] = compute()
        return self[key]


class Prefix:
    """A sequence of tokens: its last `token` behind its `parent`, and what the scorers gave it so far (`fused`)."""

    __slots__ = ("__weakref__", "depth", "fused", "parent", "serial", "states", "token")

    def __init__(self, parent: Prefix | None, token: int, serial: int, states: tuple, fused: float):
        self.parent, self.token, self.serial, self.states, self.fused = parent, token, serial, states, fused
        self.depth: int = 0 if parent is None else parent.depth + 1

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens, first to last."""
        found, node = [], self
        while node.parent is not None:
            found.append(node.token)
            node = node.parent
        return tuple(reversed(found))


class Prefixes:
    """The prefixes that a search holds on to: equal ones are one object, and those that nobody holds go."""

    def __init__(self, scorers: Sequence[Scorer] = ()):
        self.scorers = tuple(scorers)
        self._known: WeakValueDictionary[tuple[int, int], Prefix] = WeakValueDictionary()
        self._count = 0
        self.root = Prefix(None, -1, 0, tuple(s.start() for s in self.scorers), 0.0)

    def known(self, parent: Prefix, token: int) -> Prefix | None:
        """The prefix with `token` behind `parent`, where anybody holds it."""
        return self._known.get((parent.serial, token))

    def child(self, parent: Prefix, token: int) -> Prefix:
        """The prefix with `token` behind `parent`."""
        key = (parent.serial, token)
        found = self._known.get(key)
        if found is None:
            self._count += 1
            gained = sum(float(g[0]) for g in self._each(parent, np.array([token])))
            states = tuple(s.after(state, token) for s, state in zip(self.scorers, parent.states))
            found = self._known[key] = Prefix(parent, token, self._count, states, parent.fused + gained)
        return found

    def gains(self, parents: Sequence[Prefix], tokens: np.ndarray) -> np.ndarray:
        """What the scorers give each of `tokens` behind each of `parents`: float64 [parents, tokens]."""
        total = np.zeros((len(parents), len(tokens)))
        for row, parent in zip(total, parents) if self.scorers else ():
            for gained in self._each(parent, tokens):
                row += gained
        return total

    def final(self, prefix: Prefix) -> float:
        """What the scorers give a prefix in all, if the utterance ends behind it."""
        return prefix.fused + sum(s.final(state) for s, state in zip(self.scorers, prefix.states))

    def _each(self, parent: Prefix, tokens: np.ndarray) -> list[np.ndarray]:
        return [s.gains(state, tokens) for s, state in zip(self.scorers, parent.states)]


class Emitted(NamedTuple):
    """Frames at which tokens were emitted, last first (a chain that hypotheses share)."""

    frame: int
    before: Emitted | None


def emitted(last: Emitted | None) -> tuple[int, ...]:
    """The frames of a chain, first to last."""
    found = []
    while last is not None:
        found.append(last.frame)
        last = last.before
    return tuple(reversed(found))


@dataclass(frozen=True)
class Hypothesis:
    """One result of a search.

    `score` is what it was ranked by: `acoustic`, the logarithm of the probability that the model gives these tokens
    (summed over the alignments that the search kept), and what language model, bonus and bias add. `frames` are the
    frames of the scores at which the likeliest of these alignments first emits each token.
    """

    tokens: tuple[int, ...]
    score: float
    acoustic: float
    frames: tuple[int, ...]

    def times(self, frame_ms: Fraction | float) -> tuple[float, ...]:
        """When each token was emitted: the start of its frame in ms of audio; frames are `frame_ms` apart."""
        return tuple(float(frame * frame_ms) for frame in self.frames)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis, float64; what is normalised already stays as it is."""
    scores = np.asarray(scores, np.float64)
    high = scores.max(-1, keepdims=True)
    shifted = scores - np.where(np.isfinite(high), high, 0)
    with np.errstate(divide="ignore"):
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def best_of(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` highest of a flat array, the highest first; never those of no probability."""
    if len(scores) > count:
        kept = np.argpartition(-scores, count - 1)[:count]
    else:
        kept = np.arange(len(scores))
    kept = kept[scores[kept] > NEVER]
    return kept[np.lexsort((kept, -scores[kept]))]

"""Search of attention decoders: greedy, and beam search over hypotheses that are rows of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Rules = Callable[[Sequence[int], np.ndarray], np.ndarray]  # tokens after the prompt, scores[tokens] → scores


class Steps(ABC):
    """A decoder that takes one token a step, for `rows` hypotheses at once."""

    rows: int

    @abstractmethod
    def next(self, tokens: Sequence[int]) -> np.ndarray:
        """Scores of what follows (not normalised), float[rows, tokens], after one more token in every row."""

    @abstractmethod
    def reorder(self, rows: Sequence[int]) -> None:
        """Row i goes on as row `rows[i]` was."""


@dataclass
class Hypothesis:
    """Tokens behind the prompt, without the end, and the sum of their log-probabilities (with the end's)."""

    tokens: list[int]
    score: float
    ended: bool = False
    each: list[float] = field(default_factory=list)

    def ranked(self, penalty: float) -> float:
        """The score by length: sum / n ** penalty (Wu et al. 2016, without its constants; 0: the sum)."""
        return self.score / max(1, len(self.tokens) + self.ended) ** penalty


def greedy(steps: Steps, prompt: Sequence[int], end: int, most: int, rules: Rules | None = None) -> list[Hypothesis]:
    """The best token at every step, in every row alone, until all have ended or hold `most` tokens."""
    found = [Hypothesis([], 0.0) for _ in range(steps.rows)]
    scores = _prompted(steps, prompt)
    for _ in range(most):
        chosen = []
        for row, h in zip(scores, found):
            logs = _logs(row if rules is None or h.ended else rules(h.tokens, row))
            best = end if h.ended else int(logs.argmax())
            chosen.append(best)
            if not h.ended:
                _extend(h, best, float(logs[best]), end)
        if all(h.ended for h in found):
            break
        scores = steps.next(chosen)
    return found


def beam(
    steps: Steps, prompt: Sequence[int], end: int, most: int, rules: Rules | None = None, penalty: float = 1.0
) -> list[Hypothesis]:
    """Beam search with as many hypotheses as the steps have rows (Graves 2012; Sutskever et al. 2014); best first.

    Every step keeps the best continuations of all rows; those that end leave the beam. It stops when as many have ended
    as there are rows, or at `most` tokens. `penalty`: how length is weighed in the ranking (`Hypothesis.ranked`).
    """
    alive, ended = [Hypothesis([], 0.0)], []
    scores = _prompted(steps, prompt)
    for _ in range(most):
        logs = np.stack([_logs(s if rules is None else rules(h.tokens, s)) for h, s in zip(alive, scores)])
        total = logs + np.array([h.score for h in alive])[:, None]
        made: list[tuple[int, Hypothesis]] = []
        for place in np.argsort(-total, axis=None, kind="stable")[: 2 * steps.rows].tolist():
            row, token = divmod(place, total.shape[1])
            if not np.isfinite(total[row, token]):
                break
            h = Hypothesis(list(alive[row].tokens), alive[row].score, each=list(alive[row].each))
            _extend(h, token, float(logs[row, token]), end)
            if h.ended:
                ended.append(h)
            else:
                made.append((row, h))
            if len(made) == steps.rows:
                break
        if not made or len(ended) >= steps.rows:
            alive = [h for _, h in made]
            break
        alive = [h for _, h in made]
        filled = [*made, *[made[0]] * (steps.rows - len(made))]
        steps.reorder([row for row, _ in filled])
        scores = steps.next([h.tokens[-1] for _, h in filled])
    found = ended if len(ended) >= steps.rows else [*ended, *alive]
    return sorted(found, key=lambda h: -h.ranked(penalty))


def _prompted(steps: Steps, prompt: Sequence[int]) -> np.ndarray:
    for token in prompt:
        scores = steps.next([token] * steps.rows)
    return scores


def _extend(h: Hypothesis, token: int, log: float, end: int) -> None:
    h.score += log
    h.each.append(log)
    if token == end:
        h.ended = True
    else:
        h.tokens.append(token)


def _logs(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities, float64, of scores; those that rules forbid are -inf."""
    x = scores.astype(np.float64)
    x = x - x.max()
    return x - np.log(np.exp(x).sum())

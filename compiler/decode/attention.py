"""Search of attention decoders: beam search (one hypothesis: greedy), for several recordings in rows of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir.errors import UsageError

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


Asked = tuple[list[int], list[int]]  # which row each row goes on from, and the token that it takes next
Search = Generator[Asked, np.ndarray, list[Hypothesis]]  # is sent the scores of its rows, float[rows, tokens]


def search(
    rows: int, prompt: Sequence[int], end: int, most: int, rules: Rules | None = None, penalty: float = 1.0
) -> Search:
    """Beam search with `rows` hypotheses (Graves 2012; Sutskever et al. 2014), the best first; one row is greedy.

    Every step keeps the best continuations of all rows; those that end leave the beam. It stops when as many have ended
    as there are rows, or at `most` tokens. `penalty`: how length is weighed in the ranking (`Hypothesis.ranked`).
    """
    alive, ended = [Hypothesis([], 0.0)], []
    for token in prompt:
        scores = yield list(range(rows)), [token] * rows
    for _ in range(most):
        made: list[tuple[int, Hypothesis]] = []
        for row, token, log in _best(alive, scores, rules, 2 * rows):
            h = Hypothesis(list(alive[row].tokens), alive[row].score, each=list(alive[row].each))
            _extend(h, token, log, end)
            if h.ended:
                ended.append(h)
            else:
                made.append((row, h))
            if len(made) == rows:
                break
        alive = [h for _, h in made]
        if not made or len(ended) >= rows:
            break
        filled = [*made, *[made[0]] * (rows - len(made))]
        scores = yield [row for row, _ in filled], [h.tokens[-1] for _, h in filled]
    found = ended if len(ended) >= rows else [*ended, *alive]
    return sorted(found, key=lambda h: -h.ranked(penalty))


def run(steps: Steps, searches: Sequence[Search]) -> list[list[Hypothesis]]:
    """What searches find that run side by side, each in its share of the rows of `steps`."""
    share = steps.rows // len(searches)
    found: list[list[Hypothesis]] = [[] for _ in searches]
    asked: list[Asked] = [next(s) for s in searches]
    going = set(range(len(searches)))
    while going:
        rows = [i * share + r for i, (kept, _) in enumerate(asked) for r in kept]
        rows += range(len(rows), steps.rows)
        tokens = [t for _, taken in asked for t in taken]
        if rows != list(range(steps.rows)):
            steps.reorder(rows)
        scores = steps.next(tokens + tokens[-1:] * (steps.rows - len(tokens)))
        for i in sorted(going):
            try:
                asked[i] = searches[i].send(scores[i * share : (i + 1) * share])
            except StopIteration as done:
                found[i], asked[i] = done.value, (list(range(share)), asked[i][1])
                going.remove(i)
    return found


def _best(
    alive: Sequence[Hypothesis], scores: np.ndarray, rules: Rules | None, count: int
) -> Iterator[tuple[int, int, float]]:
    """The `count` best continuations: row, token and its log-probability; fewer where the rules leave fewer."""
    if np.isnan(scores[: len(alive)]).any():
        raise UsageError("SC091", "the decoder gives no token any probability: its scores are NaN")
    logs = np.stack([_logs(s if rules is None else rules(h.tokens, s)) for h, s in zip(alive, scores)])
    total = (logs + np.array([h.score for h in alive])[:, None]).ravel()
    count = min(count, total.size)
    least = np.partition(total, total.size - count)[total.size - count]
    among = np.flatnonzero((total >= least) & np.isfinite(total))
    for place in among[np.argsort(-total[among], kind="stable")[:count]].tolist():
        row, token = divmod(place, logs.shape[1])
        yield row, token, float(logs[row, token])


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
    if x.max() == -np.inf:
        return x
    x = x - x.max()
    return x - np.log(np.exp(x).sum())

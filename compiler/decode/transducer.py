"""Transducer search (Graves 2012): greedy, and a beam over hypotheses that share every call of the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...ir.errors import UsageError
from .prefix import NEVER, Emitted, Hypothesis, Prefix, Prefixes, Scorer, best_of, emitted, log_softmax

ADDED = np.logaddexp
States = Mapping[str, np.ndarray]


class Networks(Protocol):
    """The parts of a transducer that a search calls, for any number of hypotheses at once.

    `axes`: the axis of hypotheses of every state of the predictor, by name. The encoder is called before, elsewhere.
    """

    axes: Mapping[str, int]

    def begin(self) -> States:
        """The predictor's states before the first token, for one hypothesis."""

    def predict(self, tokens: np.ndarray, states: States) -> tuple[np.ndarray, States]:
        """One step: tokens int [n] and states of n hypotheses; the predictor's output [n, ...], and new states."""

    def join(self, encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Scores of the classes [n, classes] for one frame of the encoder [...] and predictor outputs [n, ...]."""


@dataclass(frozen=True)
class Rules:
    """How a model emits tokens.

    `blank` is the class that ends a frame, `start` the token before the first one (None: the blank). `most`: tokens a
    frame. `moves`: whether a token ends its frame as a blank does, so that there is one a frame at most, as in models
    of icefall's "modified" kind; `most` then has no meaning.
    """

    blank: int = 0
    start: int | None = None
    most: int = 5
    moves: bool = False

    def __post_init__(self):
        if self.most < 1:
            raise UsageError("SC090", f"{self.most} tokens a frame: 1 or more")


class Calls:
    """The networks, with hypotheses' states as rows that are gathered for a call and parted after it."""

    def __init__(self, networks: Networks, rules: Rules):
        self.networks, self.rules = networks, rules
        self.first = rules.blank if rules.start is None else rules.start

    def started(self) -> tuple[np.ndarray, States]:
        """(predictor output [...], states of one hypothesis) before the first token."""
        return self.extended([self.first], [self.networks.begin()])[0]

    def extended(self, tokens: Sequence[int], states: Sequence[States]) -> list[tuple[np.ndarray, States]]:
        """(predictor output, states) behind each token, in one call."""
        if not tokens:
            return []
        axes = self.networks.axes
        gathered = {n: np.concatenate([s[n] for s in states], axis) for n, axis in axes.items()}
        out, after = self.networks.predict(np.asarray(tokens, np.int64), gathered)
        rows = {n: np.split(after[n], len(tokens), axis) for n, axis in axes.items()}
        return [(out[i], {n: parts[i] for n, parts in rows.items()}) for i in range(len(tokens))]

    def classes(self, frame: np.ndarray, predicted: Sequence[np.ndarray]) -> np.ndarray:
        """Log-probabilities of the classes [hypotheses, classes], float64. Raises `UsageError` SC091 for NaN."""
        found = log_softmax(self.networks.join(frame, np.stack(predicted)))
        if np.isnan(found).any():
            raise UsageError("SC091", "the joiner gives NaN, or no class any probability")
        return found


class Greedy:
    """The likeliest class again and again: a token, or a blank, which ends the frame (so do `rules.most` tokens).

    Frames in pieces give what the whole gives.
    """

    def __init__(self, networks: Networks, rules: Rules | None = None):
        self.rules = rules or Rules()
        self.calls = Calls(networks, self.rules)
        self.reset()

    def reset(self) -> None:
        """Start before the first frame."""
        self.frame, self.score = 0, 0.0
        self.said: list[int] = []
        self.frames: list[int] = []
        self.predicted, self.states = self.calls.started()

    def push(self, frames: np.ndarray) -> None:
        """Take in encoder frames [frames, ...]."""
        for frame in frames:
            self._step(frame)
            self.frame += 1

    def best(self, count: int = 1, final: bool = False) -> list[Hypothesis]:
        """The one hypothesis; its score is that of its alignment alone."""
        return [Hypothesis(tuple(self.said), self.score, self.score, tuple(self.frames))]

    def _step(self, frame: np.ndarray) -> None:
        rules = self.rules
        for emitted_here in range(rules.most + 1):
            (row,) = self.calls.classes(frame, [self.predicted])
            token = rules.blank if emitted_here == rules.most and not rules.moves else int(row.argmax())
            self.score += float(row[token])
            if token == rules.blank:
                return
            self.said.append(token)
            self.frames.append(self.frame)
            ((self.predicted, self.states),) = self.calls.extended([token], [self.states])
            if rules.moves:
                return


@dataclass
class _Held:
    """A hypothesis under way: log-probability of its alignments, of the likeliest alone, and when that emitted."""

    prefix: Prefix
    acoustic: float
    alone: float
    when: Emitted | None
    predicted: np.ndarray
    states: States

    @property
    def score(self) -> float:
        return self.acoustic + self.prefix.fused

    def absorbed(self, other: _Held) -> _Held:
        """This and other alignments of the same tokens."""
        better = self if self.alone >= other.alone else other
        acoustic = float(ADDED(self.acoustic, other.acoustic))
        return _Held(self.prefix, acoustic, better.alone, better.when, self.predicted, self.states)


class Beam:
    """A beam of hypotheses that all stand at the same frame, merged where their tokens are the same.

    A frame is a few rounds: in each, every hypothesis either ends the frame by a blank or takes one more token, and the
    best `beam` of those that took one go into the next round, `rules.most` of them at most (time-synchronous decoding,
    Saon et al. 2020, after Graves 2012). With `rules.moves` there is one round, and a token ends the frame as a blank
    does (the modified search of icefall: one token a frame at most). Every round calls joiner and predictor once, for
    all hypotheses together; Graves' own best-first order would call them for one at a time.

    With a beam that holds everything, `acoustic` is the exact log-probability of the tokens, over all alignments of at
    most `rules.most` tokens a frame. With `rules.moves`, a beam of one is `Greedy`. Without, it is where the likeliest
    class has a probability q with q^(most + 1) > 1 - q at every call; else it may prefer fewer tokens, whose alignments
    as a whole are likelier. Frames in pieces give what the whole gives.
    """

    def __init__(self, networks: Networks, beam: int, rules: Rules | None = None, scorers: Sequence[Scorer] = ()):
        if beam < 1:
            raise UsageError("SC090", f"a beam of {beam}: 1 or more")
        self.rules, self.beam = rules or Rules(), beam
        self.calls, self.prefixes = Calls(networks, self.rules), Prefixes(scorers)
        self.reset()

    def reset(self) -> None:
        """Start before the first frame."""
        self.frame = 0
        self.held = [_Held(self.prefixes.root, 0.0, 0.0, None, *self.calls.started())]

    def push(self, frames: np.ndarray) -> None:
        """Take in encoder frames [frames, ...]."""
        for frame in frames:
            self._step(frame)
            self.frame += 1

    def best(self, count: int = 1, final: bool = False) -> list[Hypothesis]:
        """The `count` best hypotheses so far, the best first; `final`: with what the scorers say of an end here."""
        total = [h.acoustic + (self.prefixes.final(h.prefix) if final else h.prefix.fused) for h in self.held]
        return [
            Hypothesis(self.held[i].prefix.tokens, total[i], self.held[i].acoustic, emitted(self.held[i].when))
            for i in best_of(np.array(total), count)
        ]

    def _step(self, frame: np.ndarray) -> None:
        rules, ended = self.rules, {}
        going = self.held
        for turn in range(1 if rules.moves else rules.most + 1):
            rows = self.calls.classes(frame, [h.predicted for h in going])
            for hypothesis, row in zip(going, rows):
                self._end(ended, hypothesis, float(row[rules.blank]))
            if turn == rules.most and not rules.moves:
                break
            going = self._grown(going, rows)
            if rules.moves:
                for hypothesis in going:
                    self._end(ended, hypothesis, 0.0)
            elif not going or self._hopeless(going, ended):
                break
        if not ended:
            raise UsageError("SC091", f"frame {self.frame} gives no class any probability")
        found = list(ended.values())
        kept = best_of(np.array([h.score for h in found]), self.beam)
        self.held = [found[i] for i in kept]

    def _end(self, ended: dict[int, _Held], hypothesis: _Held, blank: float) -> None:
        """Put a hypothesis, by a blank, to those that are done with the frame."""
        h, key = hypothesis, hypothesis.prefix.serial
        done = _Held(h.prefix, h.acoustic + blank, h.alone + blank, h.when, h.predicted, h.states)
        if done.acoustic > NEVER:
            ended[key] = ended[key].absorbed(done) if key in ended else done

    def _grown(self, going: list[_Held], rows: np.ndarray) -> list[_Held]:
        """The best hypotheses with one token more, after one call of the predictor for all of them."""
        tokens = np.delete(np.arange(rows.shape[1]), self.rules.blank)
        score = np.array([h.score for h in going])[:, None] + rows[:, tokens]
        score += self.prefixes.gains([h.prefix for h in going], tokens)
        at = [(going[i], i, int(tokens[k])) for i, k in zip(*divmod(best_of(score.ravel(), self.beam), len(tokens)))]
        after = self.calls.extended([t for _, _, t in at], [h.states for h, _, _ in at])
        return [
            _Held(
                self.prefixes.child(h.prefix, t),
                h.acoustic + float(rows[i, t]),
                h.alone + float(rows[i, t]),
                Emitted(self.frame, h.when),
                *predicted,
            )
            for (h, i, t), predicted in zip(at, after)
        ]

    def _hopeless(self, going: list[_Held], ended: dict[int, _Held]) -> bool:
        """Whether none of those that go on can get into the beam any more: without scorers, scores only fall."""
        if self.prefixes.scorers or len(ended) < self.beam:
            return False
        worst = np.partition([h.score for h in ended.values()], -self.beam)[-self.beam]
        return max(h.score for h in going) < worst

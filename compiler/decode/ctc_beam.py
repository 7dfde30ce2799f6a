"""CTC prefix beam search: the likeliest labellings, summed over their alignments, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.errors import UsageError
from .prefix import NEVER, Emitted, Hypothesis, Prefix, Prefixes, Scorer, best_of, emitted

ADDED = np.logaddexp


class CTCBeam:
    """Prefix beam search (Graves 2012, chapter 7.5; Hannun et al. 2014) over log-probabilities, as frames come.

    Every prefix has two scores: of its alignments that end in a blank, and of those that end in its last token, so a
    token repeated behind a blank is a new one. `beam` prefixes are kept a frame, by score with what the `scorers` add.
    `floor` leaves out tokens of a frame that are less likely than that (a natural logarithm) below its likeliest; 0 or
    less; None: none. With a beam that holds every prefix and no floor, `acoustic` is the exact log-probability of each
    labelling.

    A beam of one is not greedy decoding: greedy follows the likeliest alignment, this the likeliest prefix. They agree
    where the likeliest class of every frame has a probability above 3/4, and may differ elsewhere.

    Frames in pieces give what the whole gives: the state between frames is all there is.
    """

    def __init__(self, beam: int, blank: int = 0, scorers: Sequence[Scorer] = (), floor: float | None = None):
        if beam < 1:
            raise UsageError("SC090", f"a beam of {beam}: 1 or more")
        self.beam, self.blank, self.floor = beam, blank, floor
        self.prefixes = Prefixes(scorers)
        self.reset()

    def reset(self) -> None:
        """Start before the first frame."""
        self.frame = 0
        self.held: list[Prefix] = [self.prefixes.root]
        # [prefixes]: alignments that end in blank, in the last token; the likeliest of each alone, and its frames.
        self.blanks, self.labels = np.zeros(1), np.full(1, NEVER)
        self.best_blank, self.best_label = np.zeros(1), np.full(1, NEVER)
        self.when_blank: list[Emitted | None] = [None]
        self.when_label: list[Emitted | None] = [None]

    def push(self, frames: np.ndarray) -> None:
        """Take in log-probabilities [frames, classes]."""
        for row in np.asarray(frames, np.float64):
            self._step(row)
            self.frame += 1

    def best(self, count: int = 1, final: bool = False) -> list[Hypothesis]:
        """The `count` best hypotheses so far, the best first; `final`: with what the scorers say of an end here."""
        acoustic = ADDED(self.blanks, self.labels)
        fused = [self.prefixes.final(p) if final else p.fused for p in self.held]
        total = acoustic + np.array(fused)
        found = []
        for i in best_of(total, count):
            when = self.when_blank[i] if self.best_blank[i] >= self.best_label[i] else self.when_label[i]
            found.append(Hypothesis(self.held[i].tokens, float(total[i]), float(acoustic[i]), emitted(when)))
        return found

    def _candidates(self, row: np.ndarray) -> np.ndarray:
        """The tokens that are worth a look in a frame."""
        likely = row > NEVER if self.floor is None else row >= row.max() - abs(self.floor)
        likely[self.blank] = False
        return np.flatnonzero(likely)

    def _step(self, row: np.ndarray) -> None:
        if not (row.max() > NEVER):  # NaN too
            raise UsageError("SC091", f"frame {self.frame} gives no class any probability: NaN, or all -inf")
        held, tokens = self.held, self._candidates(row)
        last = np.array([p.token for p in held])
        spoken = np.where(last < 0, NEVER, row[last])  # the root has no last token
        total, best = ADDED(self.blanks, self.labels), np.maximum(self.best_blank, self.best_label)

        stay_blank, stay_best_blank = total + row[self.blank], best + row[self.blank]
        stay_label, stay_best_label = self.labels + spoken, self.best_label + spoken
        blank_is_best = (self.best_blank >= self.best_label).tolist()
        when = [b if better else t for b, t, better in zip(self.when_blank, self.when_label, blank_is_best)]
        when_label = list(self.when_label)

        # Behind its own last token, a token is new only after a blank.
        again = last[:, None] == tokens
        grown = np.where(again, self.blanks[:, None], total[:, None]) + row[tokens]
        grown_best = np.where(again, self.best_blank[:, None], best[:, None]) + row[tokens]
        column = {int(t): k for k, t in enumerate(tokens)}
        place = {p.serial: i for i, p in enumerate(held)}
        for j, prefix in enumerate(held):  # what grows into a prefix that is there already belongs to it
            i = None if prefix.parent is None else place.get(prefix.parent.serial)
            k = column.get(prefix.token)
            if i is None or k is None:
                continue
            stay_label[j] = ADDED(stay_label[j], grown[i, k])
            if grown_best[i, k] > stay_best_label[j]:
                stay_best_label[j] = grown_best[i, k]
                when_label[j] = Emitted(self.frame, self._when(i, bool(again[i, k]), when))
            grown[i, k] = NEVER

        fused = np.array([p.fused for p in held])
        scores = np.concatenate(
            [
                ADDED(stay_blank, stay_label) + fused,
                (grown + fused[:, None] + self.prefixes.gains(held, tokens)).ravel(),
            ]
        )
        kept = best_of(scores, self.beam)
        size = len(held)
        old = kept < size
        stays = np.where(old, kept, 0)
        parents, columns = np.divmod(np.where(old, 0, kept - size), max(len(tokens), 1))
        grow = lambda stay, new: np.where(old, stay[stays], new)
        flat = lambda array: array[parents, columns] if len(tokens) else NEVER
        new, new_best = flat(grown), flat(grown_best)
        self.held = [
            held[s] if o else self.prefixes.child(held[p], int(tokens[c]))
            for o, s, p, c in zip(old.tolist(), stays.tolist(), parents.tolist(), columns.tolist())
        ]
        emit = lambda p, c: Emitted(self.frame, self._when(p, bool(again[p, c]), when))
        self.when_label = [
            when_label[s] if o else emit(p, c)
            for o, s, p, c in zip(old.tolist(), stays.tolist(), parents.tolist(), columns.tolist())
        ]
        self.when_blank = [when[s] if o else None for o, s in zip(old.tolist(), stays.tolist())]
        self.blanks, self.labels = grow(stay_blank, NEVER), grow(stay_label, new)
        self.best_blank, self.best_label = grow(stay_best_blank, NEVER), grow(stay_best_label, new_best)

    def _when(self, i: int, again: bool, when: list[Emitted | None]) -> Emitted | None:
        return self.when_blank[i] if again else when[i]

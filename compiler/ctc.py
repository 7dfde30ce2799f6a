"""Greedy CTC (`--ctc`): which output scores the classes, and the proof that a file's `tokens` are its decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.errors import NumericalError
from ..ir.graph import Graph
from ..passes.base import Pass
from ..passes.greedy_ctc import TOKENS, GreedyCTC, axes_of, log_probabilities, unclear


def ctc_pass(graph: Graph, blank: int) -> str:
    """The pass, as text, that adds `tokens`. Raises `UsageError` SC052 where it is not clear which output scores."""
    return str(GreedyCTC(blank, log_probabilities(graph, blank)))


@dataclass(frozen=True)
class Tokens:
    """The output `scores`, its dimensions of time and of classes, and the blank: what `tokens` are decoded from."""

    scores: str
    time: int
    classes: int
    blank: int

    def decoded(self, scores: np.ndarray) -> np.ndarray:
        """Best-path decoding (Graves et al. 2006), i32 [batch, frames]: -1 where blank, or the class before again."""
        best = np.moveaxis(scores, (self.time, self.classes), (-2, -1)).argmax(-1)
        before = np.concatenate([np.full_like(best[..., :1], self.blank), best[..., :-1]], -1)
        return np.where((best == self.blank) | (best == before), -1, best).astype(np.int32)

    def check(self, names: Sequence[str], arrays: Sequence[np.ndarray], graph: Graph) -> None:
        """Raise `NumericalError` SC506 unless a file's tokens are the decoding of the scores that it gave with them.

        Scores that `graph` gives on a grid may tie there and not where the tokens were chosen: such frames, and those
        after them, are left out.
        """
        given = dict(zip(names, arrays))
        scores, tokens = given[self.scores], given[TOKENS]
        wanted = self.decoded(scores)
        wrong = np.full(wanted.shape, True) if tokens.shape != wanted.shape else tokens != wanted
        if dict(zip(graph.output_names, graph.outputs))[self.scores].type.quant is not None:
            rows = np.moveaxis(scores, (self.time, self.classes), (-2, -1))
            tied = (rows == rows.max(-1, keepdims=True)).sum(-1) > 1
            wrong &= ~(tied | np.concatenate([np.zeros_like(tied[..., :1]), tied[..., :-1]], -1))
        if wrong.any():
            raise NumericalError(
                "SC506",
                f"{TOKENS} of the emitted file are not the greedy decoding of its own {self.scores}: "
                f"{int(wrong.sum())} of {wrong.size} frames, {tokens.shape} for {wanted.shape}",
                hints=["this is a fault of speechc: --dump-ir DIR keeps the graphs to report"],
            )


def tokens_of(passes: Sequence[Pass], captured: Graph) -> Tokens | None:
    """What the pass that adds tokens to a captured graph will decode; None where there is none to do so."""
    named = dict(zip(captured.output_names, captured.outputs))
    for p in passes:
        if isinstance(p, GreedyCTC) and not (TOKENS in named or (not p.output and unclear(captured, p.blank))):
            name = p.output or log_probabilities(captured, p.blank)
            axes = axes_of(named[name].type, p.blank) if name in named else None
            return axes and Tokens(name, *axes, p.blank)
    return None


def compared(tokens: Tokens | None, names: Sequence[str], arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Outputs that a model has itself: all but the tokens, which one that flips would make look like noise."""
    return tuple(a for name, a in zip(names, arrays) if tokens is None or name != TOKENS)

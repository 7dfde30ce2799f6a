"""Which ops stay in float so that a quantized graph reaches a signal-to-noise ratio: those that cost the most.

Rounding errors of different ops add up in the square; a few early ones often make most of the noise at the output.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from ..ir.graph import Op

Noise = Callable[[Sequence[Op]], float]  # squared error at the outputs, over their squares, with these ops quantized


def decibels(noise: float) -> float:
    """A noise as a signal-to-noise ratio in dB."""
    return float("inf") if noise <= 0 else float("-inf") if not np.isfinite(noise) else -10 * float(np.log10(noise))


def affordable(sites: Sequence[Op], noise: Noise, reach: float, runs: int = 64) -> tuple[list[Op], float]:
    """The ops of `sites` that can be quantized with at least `reach` dB, and what they reach; in at most `runs` trials.

    The noisiest group of ops is halved until it is one op, which then stays in float; until the rest reaches `reach`.
    Where it cannot be reached, all sites and what they reach.
    """
    kept, total = list(sites), noise(sites)
    reached = first = decibels(total)
    groups = [(-total, 0, kept)]
    trials, number = 1, 0
    while reached < reach and groups and trials < runs:
        _, _, worst = heapq.heappop(groups)
        if len(worst) > 1:
            for half in (worst[: len(worst) // 2], worst[len(worst) // 2 :]):
                number, trials = number + 1, trials + 1
                heapq.heappush(groups, (-noise(half), number, half))
            continue
        kept = [op for op in kept if op is not worst[0]]
        reached, trials = decibels(noise(kept)), trials + 1
    return (kept, reached) if reached >= reach else (list(sites), first)

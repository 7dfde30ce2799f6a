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
    As noises add up, one half is tried, and the rest once it is expected to do. Where `reach` cannot be reached, all
    sites and what they reach.
    """
    kept, total = list(sites), noise(sites)
    first, wanted, left = total, 10 ** (-reach / 10), total
    groups, trials = [(-total, 0, kept)], 1
    while total > wanted and groups and trials < runs:
        minus, _, worst = heapq.heappop(groups)
        if len(worst) == 1:
            kept = [op for op in kept if op is not worst[0]]
            left += minus
            if left <= wanted * (1 + 1e-9) or not groups:
                total = left = noise(kept)
                trials += 1
            continue
        half, rest = worst[: len(worst) // 2], worst[len(worst) // 2 :]
        one, trials = noise(half), trials + 1
        other = -minus - one
        if not other > 0:  # they did not add up
            other, trials = noise(rest), trials + 1
        for found, some in ((one, half), (other, rest)):
            heapq.heappush(groups, (-found, 2 * trials + (some is rest), some))
    return (kept, decibels(total)) if total <= wanted else (list(sites), decibels(first))

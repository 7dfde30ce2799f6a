"""Times several ways to do one thing side by side: blocks of runs in turn, medians, ratios block by block.

Alternating single runs empties the caches and flattens every ratio; one long run after another drifts with the
machine. Blocks of five in turn do neither.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def side_by_side(runs: dict[str, Callable[[], object]], blocks: int = 7, block: int = 5) -> dict[str, list[float]]:
    """Median seconds of every block, by name; the first run of each block only warms the caches."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(blocks):
        for name, run in runs.items():
            run()
            seconds = []
            for _ in range(block):
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
            times[name].append(statistics.median(seconds))
    return times


def ratio(times: dict[str, list[float]], base: str, name: str) -> float:
    """How many times as fast as `base` `name` is: the median of the blocks' ratios."""
    return statistics.median(b / n for b, n in zip(times[base], times[name]))

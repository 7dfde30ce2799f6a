"""Figures of many timings: percentiles, and ratios pair by pair."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` % of the values do not exceed, between two of them by straight line.

    The definition of numpy's default (Hyndman and Fan 1996, type 7).
    """
    ordered = sorted(values)
    at = (len(ordered) - 1) * percent / 100
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


@dataclass(frozen=True)
class Latency:
    """Seconds of many timings: how many, the middle, and how bad the worst twentieth and hundredth get."""

    count: int
    median: float
    p95: float
    p99: float

    @staticmethod
    def of(seconds: Sequence[float]) -> Latency:
        """The figures of timings."""
        return Latency(len(seconds), *(percentile(seconds, p) for p in (50, 95, 99)))

    def as_dict(self) -> dict[str, float]:
        """Plain data for JSON, in ms."""
        return {"count": self.count} | {f"{n}_ms": 1000 * v for n, v in asdict(self).items() if n != "count"}


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as another: the middle of the blocks' ratios, the least and the greatest."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(base: Sequence[Sequence[float]], own: Sequence[Sequence[float]]) -> Ratio:
        """Of blocks of timings, those of `base` and its own next to each other in time; compared by their medians."""
        pairs = [statistics.median(b) / statistics.median(o) for b, o in zip(base, own)]
        return Ratio(statistics.median(pairs), min(pairs), max(pairs))

"""The band of an attention mask: which keys a query sees, by its place in a period and the distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

SIZES = (48, 160, 640, 2048, 5120)  # frames at which a mask is run, until it shows a band


@dataclass(frozen=True)
class Band:
    """allowed(i, j) = rows[i mod period, j - i - low] for low <= j - i <= high, else false."""

    period: int
    low: int
    high: int
    rows: np.ndarray  # bool[period, high - low + 1]

    def allowed(self, i: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Whether queries `i` see keys at `distance`, elementwise."""
        inside = (distance >= self.low) & (distance <= self.high)
        return inside & self.rows[i % self.period, np.clip(distance - self.low, 0, self.high - self.low)]

    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """The nearest and the furthest distance that each row of the period sees."""
        first = self.rows.argmax(1)
        last = self.rows.shape[1] - 1 - self.rows[:, ::-1].argmax(1)
        return self.low + first, self.low + last

    def delay(self, frames: int, queries: int, keys: int) -> int:
        """The least delay at which every query finds its last key there: steps of `frames`, operands that late.

        For chunks of C frames with R to the right: max(d_q, RC + C - g + g⌈d_k / g⌉), g = gcd(frames, C).
        """
        i, (_, furthest) = self._places(frames)
        last = i + furthest[i % self.period]
        delay = queries
        while np.any(((i + delay) // frames + 1) * frames - keys - 1 < last):
            delay += 1
        return delay

    def past(self, frames: int, delay: int, keys: int) -> int:
        """Keys of the past that stand in front of a step's own."""
        i, (nearest, _) = self._places(frames)
        first = i + nearest[i % self.period]
        return max(0, int(((i + delay) // frames * frames - keys - first).max()))

    def _places(self, frames: int):
        return np.arange(math.lcm(self.period, frames)), self.reach()

    def phases(self, frames: int) -> int:
        """How many different steps there are."""
        return self.period // math.gcd(self.period, frames)

    def window(self, frames: int, delay: int, keys: int, past: int) -> np.ndarray:
        """bool[phases, queries, keys]: what the queries of a step see of the keys in front of them."""
        phase = np.arange(self.phases(frames))[:, None, None]
        q, w = np.arange(frames)[None, :, None], np.arange(past + frames)[None, None, :]
        i = phase * frames - delay + q
        return self.allowed(i, np.broadcast_to(delay - keys - past + w - q, (1, frames, past + frames)))


def band_of(allowed: np.ndarray) -> Band | None:
    """The band that a square of allowed places shows, if it is small beside the square and repeats."""
    n = len(allowed)
    i, j = np.nonzero(allowed)
    if len(i) == 0:
        return None
    low, high = int((j - i).min()), int((j - i).max())
    if -low >= n // 2 or high >= n // 2:
        return None
    for period in range(1, n // 4 + 1):
        if np.array_equal(allowed[period:, period:], allowed[:-period, :-period]):
            break
    else:
        return None
    base = math.ceil(max(-low, 0) / period) * period
    at = base + np.arange(period)
    if at[-1] + high >= n:
        return None
    rows = allowed[at[:, None], at[:, None] + np.arange(low, high + 1)[None, :]]
    return Band(period, low, high, rows) if rows.any(1).all() else None


def whole_past(allowed: np.ndarray) -> Band | None:
    """The band of frames that see all before them, and a few behind, where there can be no more than these."""
    n = len(allowed)
    i, j = np.indices(allowed.shape)
    high = int((j - i)[allowed].max(initial=1 - n))
    if high >= n // 2 or not np.array_equal(allowed, j - i <= high):
        return None
    return Band(1, 1 - n, high, np.ones((1, n + high), bool))


def unbounded(allowed: np.ndarray) -> str:
    """Which sides of a square of allowed places have no end: "right", "left" or "both"."""
    n = len(allowed)
    i, j = np.nonzero(allowed)
    right = len(i) > 0 and (j - i).max() >= n // 2
    left = len(i) > 0 and (i - j).max() >= n // 2
    return "both" if left and right else "right" if right else "left"


def ticks_for(rate: Fraction, frames: int) -> int:
    """Input frames that give at least `frames` frames."""
    return math.ceil(frames / rate) + math.ceil(2 / rate)

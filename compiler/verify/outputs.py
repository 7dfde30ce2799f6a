"""Outputs of a file beside those of its model: how far apart, and whether the likeliest class is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...lowering.manifest import Port
from ..numerics import Difference, difference


@dataclass(frozen=True)
class Compared:
    """One output on one trial: largest absolute difference, relative to the largest value, and SNR in dB.

    `argmax` is the share of frames whose likeliest class is the same, where the last axis holds scores of classes.
    """

    name: str
    absolute: float
    found: Difference
    argmax: float | None
    values: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; null is no bound, and an SNR without noise."""
        more = {} if self.argmax is None else {"same_argmax": self.argmax}
        absolute = self.absolute if np.isfinite(self.absolute) else None
        return {"output": self.name, "absolute": absolute, **self.found.as_dict(), **more, "values": self.values}


def compare(
    ports: Sequence[Port], actual: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> list[Compared]:
    """Every output that both have."""
    return [_one(p, actual[p.name], wanted[p.name]) for p in ports if p.name in actual and p.name in wanted]


def _one(port: Port, a: np.ndarray, r: np.ndarray) -> Compared:
    a, r = np.asarray(a), np.asarray(r)
    found = difference([a], [r])
    same = None
    if a.shape == r.shape and a.size and scores_classes(port):
        same = float((a.argmax(-1) == r.argmax(-1)).mean())
    with np.errstate(all="ignore"):
        far = np.abs(a.astype(np.float64) - r) if a.shape == r.shape else np.array([np.inf])
    far = np.where(np.isnan(far), np.inf if not np.isfinite(found.error) else 0.0, far)
    return Compared(port.name, float(far.max(initial=0)), found, same, int(r.size))


def scores_classes(port: Port) -> bool:
    """Whether the last axis of an output can be scores of classes: real numbers, several, and not along time."""
    real = port.dtype.startswith("f") or port.quant is not None
    last = port.shape[-1] if port.shape else 1
    timed = port.time is not None and port.time["axis"] == len(port.shape) - 1
    return real and len(port.shape) > 1 and isinstance(last, int) and last > 1 and not timed

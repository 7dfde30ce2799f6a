"""What all front ends share in the graph: frames, the spectrum as one real matrix product, bands and logarithm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...ir.expr import Size, floordiv
from ...ir.graph import Builder, Value


@dataclass(frozen=True)
class Framing:
    """How a signal is cut: frame i holds samples i·hop - front to i·hop - front + size.

    `behind` samples are padded at the end; of a negative number of either, that many are not looked at. `mode` says
    with what: "constant" (zeros), "reflect" or "symmetric" (mirrored without and with the last sample).
    """

    size: int
    hop: int
    front: int = 0
    behind: int = 0
    mode: str = "constant"

    @property
    def extra(self) -> int:
        """Samples that padding adds."""
        return self.front + self.behind

    def frames(self, samples: Size) -> Size:
        """How many frames there are of a signal."""
        return floordiv(samples + (self.extra - self.size), self.hop) + 1

    def samples(self, frames: Size) -> Size:
        """The fewest samples that give so many frames."""
        return (frames - 1) * self.hop + self.size - self.extra

    @property
    def least(self) -> int:
        """The fewest samples that can be framed: one frame, and as many as a mirror needs."""
        mirrored = max(self.front, self.behind) + (self.mode == "reflect") if self.mode != "constant" else 1
        return max(1, self.samples(1), mirrored)

    @property
    def future(self) -> int:
        """Samples behind its first one, at i·hop, that frame i reaches."""
        return self.size - self.front


def framed(g: Builder, x: Value, framing: Framing) -> Value:
    """[N, samples] -> [N, frames, size]."""
    cut = (max(-framing.front, 0), max(-framing.behind, 0))
    if cut != (0, 0):
        x = g.slice(x, axis=1, start=cut[0], stop=x.type.sizes[1] - cut[1])
    pads = (max(framing.front, 0), max(framing.behind, 0))
    if framing.mode == "symmetric":
        x = _mirrored(g, x, pads)
    elif pads != (0, 0):
        x = g.pad(x, pads=((0, 0), pads), mode=framing.mode)
    return g.frame(x, size=framing.size, hop=framing.hop)


def _mirrored(g: Builder, x: Value, pads: tuple[int, int]) -> Value:
    """[N, samples] with mirrors at both ends in which the outermost sample comes again.

    The mirrors of a graph leave out the sample that they stand on. Where every sample stands three times, that is only
    one of three: mirrored, the middle ones of all are what is wanted.
    """
    n = x.type.sizes[1] + sum(pads)
    thrice = g.resize(x, axis=1, scale=3)
    thrice = g.pad(thrice, pads=((0, 0), tuple(3 * p for p in pads)), mode="reflect")
    return g.slice(thrice, axis=1, start=1, stop=3 * n, step=3)


def weight(g: Builder, name: str, array: np.ndarray) -> Value:
    """A weight of the front end, f32."""
    return g.weight(f"front_end.{name}", np.ascontiguousarray(array, np.float32))


def banded(g: Builder, frames: Value, spectrum: np.ndarray, bank: np.ndarray, power: float) -> Value:
    """[N, frames, size] -> [N, frames, bins]: the power (1: magnitude) of a spectrum, summed into bands.

    `spectrum` is complex [lines, size]: everything that is linear in a frame, from its offset to the DFT, in one
    matrix. Lines that no band reads are left out. Power is the sum of two squares, so the bands add real and imaginary
    parts with one matrix that holds the bank twice.
    """
    read = np.flatnonzero(np.abs(bank).max(0) > 0)
    spectrum, bank = spectrum[read], bank[:, read]
    parts = np.concatenate([spectrum.real, spectrum.imag])
    y = g.linear(frames, weight(g, "dft", parts))
    y = g.mul(y, y)
    if power == 2:
        return g.linear(y, weight(g, "bands", np.concatenate([bank, bank], 1)))
    lines = len(read)
    real, imaginary = (g.slice(y, axis=2, start=i * lines, stop=(i + 1) * lines) for i in range(2))
    y = g.add(real, imaginary)
    y = g.sqrt(y) if power == 1 else g.pow(y, g.const(power / 2, "f32"))
    return g.linear(y, weight(g, "bands", bank))


def scaled(g: Builder, x: Value, factor: float) -> Value:
    """x times a number."""
    return x if factor == 1 else g.mul(x, g.const(factor, "f32"))


def logarithm(g: Builder, x: Value, floor: float, guard: str = "clamp", factor: float = 1.0) -> Value:
    """`factor` times ln x, where nothing is below `floor` ("clamp"), or it is added to everything ("add")."""
    if floor:
        x = (g.maximum if guard == "clamp" else g.add)(x, g.const(floor, "f32"))
    return scaled(g, g.log(x), factor)


LOGS = {"ln": 1.0, "log10": 1 / math.log(10), "log2": 1 / math.log(2), "db": 10 / math.log(10)}

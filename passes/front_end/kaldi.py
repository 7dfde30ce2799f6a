"""Kaldi's filterbank and MFCC (feat/feature-fbank.h, feature-mfcc.h), without dither."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.graph import Builder, Value
from .bands import Framing, banded, framed, logarithm, scaled, weight
from .mel import cosines, triangles_in_mel
from .spec import FrontEnd, Place, after
from .windows import SHAPES, emphasis, fourier, window, without_mean

EPSILON = 1.1920928955078125e-07  # of float32: Kaldi's floor under every logarithm
WINDOWS = {"povey": "povey", "hamming": "hamming", "hanning": "hann", "blackman": "blackman", "sine": "sine",
           "rectangular": "rectangular"}  # fmt: skip
assert set(WINDOWS.values()) <= set(SHAPES)


@dataclass(frozen=True)
class _Kaldi(FrontEnd):
    """What the filterbank and MFCC share: framing, spectrum, bands and energy."""

    choices = {"window": tuple(WINDOWS)}
    bins: int = 80
    sample_rate: int = 16000
    scale: float = 32768.0
    frame_length: float = 25.0
    frame_shift: float = 10.0
    window: str = "povey"
    preemphasis: float = 0.97
    remove_dc_offset: bool = True
    round_to_power_of_two: bool = True
    snip_edges: bool = True
    low_freq: float = 20.0
    high_freq: float = 0.0
    use_energy: bool = False
    raw_energy: bool = True
    energy_floor: float = 0.0
    htk_compat: bool = False

    def checked(self) -> None:
        super().checked()
        for name in ("sample_rate", "bins", "frame_length", "frame_shift", "scale"):
            if getattr(self, name) <= 0:
                self.refuse(f"{name} is above 0")
        if not 0 <= self.low_freq < self.top <= self.sample_rate / 2:
            self.refuse(f"{self.low_freq:g} to {self.top:g} Hz is no range below {self.sample_rate / 2:g} Hz")
        if self.size < 2 or self.hop < 1:
            self.refuse("a frame has 2 samples or more, and moves by 1 or more")
        if self.energy_floor < 0:
            self.refuse("energy_floor is 0 or more")

    @property
    def size(self) -> int:
        """Samples of a frame."""
        return int(self.sample_rate * 0.001 * self.frame_length)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * 0.001 * self.frame_shift)

    @property
    def points(self) -> int:
        """Of the DFT."""
        return 1 << (self.size - 1).bit_length() if self.round_to_power_of_two else self.size + self.size % 2

    @property
    def top(self) -> float:
        """The upper end of the highest band; below 0 it is counted from half the sample rate."""
        return self.high_freq if self.high_freq > 0 else self.sample_rate / 2 + self.high_freq

    def framing(self) -> Framing:
        if self.snip_edges:
            return Framing(self.size, self.hop)
        front = self.size // 2 - self.hop // 2
        behind = self.size - front - self.hop + self.hop // 2
        return Framing(self.size, self.hop, front, behind, "symmetric")

    def linear(self, windowed: bool = True) -> np.ndarray:
        """What is done to a frame in front of its DFT, as one matrix [size, size]."""
        made = emphasis(self.size, self.preemphasis) * self.scale
        if self.remove_dc_offset:
            made = made @ without_mean(self.size)
        return window(WINDOWS[self.window], self.size, False)[:, None] * made if windowed else made

    def mel(self, g: Builder, frames: Value, bins: int, power: float) -> Value:
        """The mel bands of frames."""
        spectrum = fourier(self.size, self.points) @ self.linear()
        bank = triangles_in_mel(bins, self.points // 2 + 1, self.sample_rate, self.low_freq, self.top)
        if not np.abs(bank).max(1).all():
            self.refuse(f"{bins} bands are too narrow for a DFT of {self.points} points: some hold no line of it")
        return banded(g, frames, spectrum, bank, power)

    def energy(self, g: Builder, frames: Value) -> Value:
        """The logarithm of a frame's energy, [N, frames, 1]: before pre-emphasis and window, or (not raw) behind."""
        if not self.raw_energy:
            y = g.linear(frames, weight(g, "windowed", self.linear()))
        else:
            y = frames
            if self.remove_dc_offset:
                y = g.sub(y, g.mean(y, axes=(2,), keepdims=True))
            y = scaled(g, y, self.scale)
        y = logarithm(g, g.sum(g.mul(y, y), axes=(2,), keepdims=True), EPSILON)
        return g.maximum(y, g.const(float(np.log(self.energy_floor)), "f32")) if self.energy_floor else y


class KaldiFbank(_Kaldi):
    """Kaldi's filterbank: logarithms of mel bands of frames, each without its mean, pre-emphasised and windowed.

    Audio in [-1, 1] is multiplied by `scale` (32768: samples as Kaldi reads them from files of 16 bits; 1: as
    torchaudio.compliance.kaldi is often called). Frames are in ms, frequencies in Hz; `high_freq` 0 is half the sample
    rate. `snip_edges`: only frames that lie in the signal; else as many as fit its length, the signal mirrored around
    it. Numbers below 1.19e-7 are taken as that before the logarithm. `use_energy` puts the logarithm of the frame's
    energy in front (behind with `htk_compat`), `raw_energy` that before pre-emphasis and window.
    """

    name = "kaldi-fbank"
    use_power: bool = after("high_freq", True)
    use_log: bool = after("use_power", True)

    @property
    def width(self) -> int:
        return self.bins + self.use_energy

    def features(self, g: Builder, x: Value, place: Place) -> Value:
        frames = framed(g, x, self.framing())
        y = self.mel(g, frames, self.bins, 2.0 if self.use_power else 1.0)
        if self.use_log:
            y = logarithm(g, y, EPSILON)
        if not self.use_energy:
            return y
        energy = self.energy(g, frames)
        return g.concat(*((y, energy) if self.htk_compat else (energy, y)), axis=2)


class Mfcc(_Kaldi):
    """Kaldi's MFCC (Davis and Mermelstein 1980): `bins` coefficients of the cosine transform of `mels` log-mel bands.

    Coefficient i is multiplied by 1 + lifter / 2 sin(π i / lifter) (0: not). `use_energy` puts the logarithm of the
    frame's energy, at least that of `energy_floor`, in the place of the first; `htk_compat` puts the first one last.
    The rest is as in kaldi-fbank. (Those of torchaudio and librosa: `log-mel{cepstra=…}`.)
    """

    name = "mfcc"
    bins: int = 13
    mels: int = after("bins", 23)
    lifter: float = after("high_freq", 22.0)
    use_energy: bool = True

    def checked(self) -> None:
        super().checked()
        if self.bins > self.mels:
            self.refuse(f"{self.bins} coefficients of {self.mels} mel bands")

    @property
    def width(self) -> int:
        return self.bins

    def features(self, g: Builder, x: Value, place: Place) -> Value:
        frames = framed(g, x, self.framing())
        y = logarithm(g, self.mel(g, frames, self.mels, 2.0), EPSILON)
        rows = cosines(self.mels, self.bins)
        if self.lifter:
            rows *= (1 + self.lifter / 2 * np.sin(np.pi * np.arange(self.bins) / self.lifter))[:, None]
        if self.use_energy:
            energy = self.energy(g, frames)
            if self.bins == 1:
                return energy
            rest = g.linear(y, weight(g, "cosines", rows[1:]))
            return g.concat(*((rest, energy) if self.htk_compat else (energy, rest)), axis=2)
        if self.htk_compat:
            rows[0] *= np.sqrt(2.0)
            rows = np.concatenate([rows[1:], rows[:1]])
        return g.linear(y, weight(g, "cosines", rows))

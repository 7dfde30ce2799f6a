"""Log-mel spectrograms on a centred STFT: torchaudio's, librosa's, NeMo's and Whisper's, and MFCC made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir.graph import Builder, Value
from .bands import LOGS, Framing, banded, framed, logarithm, weight
from .mel import SCALES, cosines, triangles_in_hz
from .spec import FrontEnd, Place
from .windows import SHAPES, fourier, window

# What each library takes where it is told nothing (torchaudio.transforms.MelSpectrogram and AmplitudeToDB;
# librosa.feature.melspectrogram and power_to_db; nemo.collections.asr FilterbankFeatures).
LIKE: dict[str, dict[str, object]] = {
    "torchaudio": {"sample_rate": 16000, "bins": 128, "n_fft": 400, "scale": "htk", "norm": "none",
                   "pad_mode": "reflect", "log": "db", "floor": 1e-10, "guard": "clamp", "top_db": 0.0,
                   "periodic": True, "preemphasis": 0.0, "last": True},
    "librosa": {"sample_rate": 22050, "bins": 128, "n_fft": 2048, "hop_length": 512, "scale": "slaney",
                "norm": "slaney", "pad_mode": "constant", "log": "db", "floor": 1e-10, "guard": "clamp",
                "top_db": 80.0, "periodic": True, "preemphasis": 0.0, "last": True},
    "nemo": {"sample_rate": 16000, "bins": 80, "n_fft": 512, "win_length": 400, "hop_length": 160, "scale": "slaney",
             "norm": "slaney", "pad_mode": "constant", "log": "ln", "floor": 2.0**-24, "guard": "add", "top_db": 0.0,
             "periodic": False, "preemphasis": 0.97, "last": False},
}  # fmt: skip


class LogMel(FrontEnd):
    """Mel bands of a centred short-time Fourier transform, as logarithms.

    `like` says whose conventions hold for what is not given: torchaudio's, librosa's or NeMo's. Lengths are in samples,
    frequencies in Hz. `win_length` samples of a window stand in the middle of `n_fft`; with `center`, frame i is
    centred on sample i·hop_length, with `pad_mode` around the signal; `last`: a frame is centred on its end as well.
    `power` 2 is energy, 1 magnitude. `scale` and `norm` are those of the filterbank. `log` "db" is 10 log10 of power
    and 20 log10 of magnitude, "none" leaves the bands as they are; below `floor` they are cut off, or it is added to
    them (`guard`). `top_db` cuts off what is so far below the utterance's largest value (in the unit of `log`; 0: does
    not), or below `maximum` where that is given. `cepstra` makes MFCC of so many coefficients (an orthonormal DCT-II),
    `lifter` weighs them as librosa does. `preemphasis` subtracts the sample before.
    """

    name = "log-mel"
    choices = {"like": tuple(LIKE), "scale": (None, *SCALES), "norm": (None, "slaney", "none"),
               "pad_mode": (None, "reflect", "constant"), "log": (None, *LOGS, "none"),
               "guard": (None, "clamp", "add"), "window": tuple(SHAPES)}  # fmt: skip
    like: str = "torchaudio"
    sample_rate: int | None = None
    bins: int | None = None
    n_fft: int | None = None
    win_length: int | None = None
    hop_length: int | None = None
    window: str = "hann"
    periodic: bool | None = None
    center: bool = True
    pad_mode: str | None = None
    last: bool | None = None
    power: float = 2.0
    f_min: float = 0.0
    f_max: float | None = None
    scale: str | None = None
    norm: str | None = None
    log: str | None = None
    floor: float | None = None
    guard: str | None = None
    top_db: float | None = None
    maximum: float | None = None
    preemphasis: float | None = None
    cepstra: int = 0
    lifter: float = 0.0

    def __post_init__(self):
        for name, value in LIKE.get(self.like, {}).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if isinstance(self.n_fft, int):
            object.__setattr__(self, "win_length", self.win_length or self.n_fft)
            object.__setattr__(self, "hop_length", self.hop_length or self.win_length // 2)
        if isinstance(self.sample_rate, int):
            object.__setattr__(self, "f_max", self.sample_rate / 2 if self.f_max is None else self.f_max)

    def given(self, every: bool = False) -> dict[str, object]:
        """The options that are not those that `like` stands for."""
        values = super().given(every)
        if every:
            return values
        usual = type(self)(like=self.like, n_fft=self.n_fft, sample_rate=self.sample_rate)
        first = type(self)(like=self.like)  # those two decide on others

        def own(name: str) -> bool:
            if name == "like":
                return self.like != type(self).like
            return values[name] != getattr(first if name in ("n_fft", "sample_rate") else usual, name)

        return {n: v for n, v in values.items() if own(n)}

    def checked(self) -> None:
        super().checked()
        for name in ("sample_rate", "bins", "n_fft", "win_length", "hop_length", "power"):
            if getattr(self, name) <= 0:
                self.refuse(f"{name} is above 0")
        if self.win_length > self.n_fft:
            self.refuse(f"a window of {self.win_length} samples is longer than n_fft={self.n_fft}")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            self.refuse(f"{self.f_min:g} to {self.f_max:g} Hz is no range below {self.sample_rate / 2:g} Hz")
        if self.cepstra > self.bins or self.cepstra < 0:
            self.refuse(f"{self.cepstra} cepstra of {self.bins} bands")
        if self.floor < 0 or self.top_db < 0:
            self.refuse("floor and top_db are 0 or more")
        if self.maximum is not None and not self.top_db:
            self.refuse("maximum goes with top_db: nothing else asks for one")

    @property
    def width(self) -> int:
        return self.cepstra or self.bins

    def lines(self) -> np.ndarray:
        """The frequencies of the DFT; torchaudio puts the last one at half the sample rate, for odd n_fft too."""
        if self.like == "torchaudio":
            return np.linspace(0, self.sample_rate // 2, self.n_fft // 2 + 1)
        return np.fft.rfftfreq(self.n_fft, 1 / self.sample_rate)

    def framing(self) -> Framing:
        """Only as long as the window: what stands around it in n_fft is zeros."""
        off = (self.n_fft - self.win_length) // 2
        if self.center:
            front = self.n_fft // 2 - off
            behind = self.win_length - front - self.n_fft % 2
        else:
            front, behind = -off, self.win_length + off - self.n_fft
        return Framing(self.win_length, self.hop_length, front, behind - (0 if self.last else self.hop_length),
                       self.pad_mode if self.center else "constant")  # fmt: skip

    def features(self, g: Builder, x: Value, place: Place) -> Value:
        if self.preemphasis:
            x = emphasised(g, x, self.preemphasis)
        spectrum = fourier(self.win_length, self.n_fft) * window(self.window, self.win_length, self.periodic)
        bank = triangles_in_hz(self.bins, self.lines(), self.f_min, self.f_max, self.scale, self.norm)
        y = banded(g, framed(g, x, self.framing()), spectrum, bank, self.power)
        if self.log != "none":
            factor = LOGS[self.log] * (2 if self.log == "db" and self.power == 1 else 1)
            y = logarithm(g, y, self.floor, self.guard, factor)
        if self.top_db:
            with g.at(place.at("maximum")):
                y = below(g, y, self.top_db, self.maximum)
        if not self.cepstra:
            return y
        weights = 1 + self.lifter / 2 * np.sin(np.pi * (1 + np.arange(self.cepstra)) / (self.lifter or 1))
        return g.linear(y, weight(g, "cosines", cosines(self.bins, self.cepstra) * weights[:, None]))

    def fixed(self, part: str) -> list[FrontEnd]:
        return [replace(self, maximum=USUAL_DB[self.log])] if part == "maximum" and self.log in USUAL_DB else []


class Whisper(FrontEnd):
    """Whisper's log-mel spectrogram (Radford et al. 2022): 25 ms windows every 10 ms of audio at 16 kHz.

    log10 of 80 (128) mel bands, cut off 8 below the utterance's largest value, plus 4, divided by 4. `maximum` takes
    the place of that largest value: the same for every utterance. Trained on audio padded with silence to 30 s.
    """

    name = "whisper"
    bins: int = 80
    maximum: float | None = None

    sample_rate = 16000

    def checked(self) -> None:
        super().checked()
        if self.bins < 1:
            self.refuse("bins is above 0")

    def plain(self) -> LogMel:
        """Its mel bands."""
        return LogMel(n_fft=400, hop_length=160, bins=self.bins, scale="slaney", norm="slaney", last=False, log="none")

    @property
    def width(self) -> int:
        return self.bins

    def framing(self) -> Framing:
        return self.plain().framing()

    def features(self, g: Builder, x: Value, place: Place) -> Value:
        y = logarithm(g, self.plain().features(g, x, place), 1e-10, factor=LOGS["log10"] / 4)
        with g.at(place.at("maximum")):
            y = below(g, y, 2.0, None if self.maximum is None else self.maximum / 4)
        return g.add(y, g.const(1.0, "f32"))

    def fixed(self, part: str) -> list[FrontEnd]:
        return [replace(self, maximum=USUAL_DB["log10"])] if part == "maximum" else []


# The largest band of loud speech, in the unit of each logarithm: with peaks at 0.7 of full scale, log10 is 1.4 ± 0.3.
USUAL_DB = {"log10": 1.5, "db": 15.0, "ln": 3.5, "log2": 5.0}


def below(g: Builder, y: Value, reach: float, maximum: float | None) -> Value:
    """y, but nothing that is more than `reach` below its largest value of an utterance, or below `maximum`."""
    if maximum is not None:
        return g.maximum(y, g.const(maximum - reach, "f32"))
    return g.maximum(y, g.sub(g.max(y, axes=(1, 2), keepdims=True), g.const(reach, "f32")))


def emphasised(g: Builder, x: Value, factor: float) -> Value:
    """y[n] = x[n] - factor x[n - 1] along a whole signal [N, samples], x[-1] = 0."""
    before = g.slice(g.pad(x, pads=((0, 0), (1, 0))), axis=1, start=0, stop=x.type.sizes[1])
    return g.sub(x, g.mul(before, g.const(factor, "f32")))

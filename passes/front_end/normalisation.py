"""Mean and variance normalisation of features: of the whole utterance, of the frames so far, or fixed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ...ir.errors import UsageError
from ...ir.graph import Builder, Value
from .bands import weight
from .spec import Behind, Place

LEAST = 1e-10  # a variance: that of the first frame alone is 0, and something is divided by its root


class Utterance(Behind):
    """Each feature minus its mean over the utterance, divided by its standard deviation (`variance` False: not).

    `unbiased` divides the sum of squares by one frame less. `eps` is added to the variance, or (`on` "std") to its
    root.
    """

    name = "utterance"
    choices = {"on": ("variance", "std")}
    variance: bool = True
    unbiased: bool = False
    eps: float = 1e-5
    on: str = "variance"

    def checked(self) -> None:
        super().checked()
        _not_below_0(self)

    def features(self, g: Builder, x: Value, place: Place) -> Value:
        with g.at(place.at("mean")):
            off = g.sub(x, g.mean(x, axes=(1,), keepdims=True))
        if not self.variance:
            return off
        with g.at(place.at("variance")):
            var = g.mean(g.mul(off, off), axes=(1,), keepdims=True)
            if self.unbiased:
                frames = g.cast(g.extent(x.type.sizes[1]), dtype="f32")
                one = g.const(1.0, "f32")
                var = g.mul(var, g.div(frames, g.maximum(g.sub(frames, one), one)))
        return g.div(off, _root(g, var, self.eps, self.on))

    def fixed(self, part: str) -> list[Behind]:
        return [Cumulative(variance=self.variance, on=self.on)]


class Cumulative(Behind):
    """Each feature minus its mean over the frames so far, divided by its standard deviation over them.

    The sums are Welford's (1962): the variance of t frames is 1/t Σ s / (s - 1) (x[s] - M[s])², where M[s] is the mean
    of the first s; nothing cancels. The first frame becomes 0. Options as for utterance. `eps` keeps the rounding of
    frames that hardly differ from being divided by almost nothing: with 0.01 it grows 10 times at most (a steady tone
    comes out below 1e-4 in float32; with 1e-5 it would be 3e-3), and logarithms of mel bands vary by 0.4 or more.
    """

    name = "cumulative"
    choices = {"on": ("variance", "std")}
    variance: bool = True
    eps: float = 1e-2
    on: str = "variance"

    def checked(self) -> None:
        super().checked()
        _not_below_0(self)

    def features(self, g: Builder, x: Value, place: Place) -> Value:
        frames = x.type.sizes[1]
        count = g.cast(g.add(g.iota(size=frames), g.const(1, "i64")), dtype="f32")
        count = g.reshape(count, shape=(frames, 1))
        off = g.sub(x, g.div(g.cumsum(x, axis=1), count))
        if not self.variance:
            return off
        one = g.const(1.0, "f32")
        part = g.mul(g.mul(off, off), g.div(count, g.maximum(g.sub(count, one), one)))
        var = g.maximum(g.div(g.cumsum(part, axis=1), count), g.const(LEAST, "f32"))
        return g.div(off, _root(g, var, self.eps, self.on))


class Fixed(Behind):
    """Each feature minus `mean`, divided by `std`: numbers, one or one a feature, or those of a file.

    `file` is `.npz` (mean and std, or var), `.npy` (rows mean and std) or `.json` with those names, or with mean_stat,
    var_stat and frame_num, sums over frames (WeNet's global_cmvn).
    """

    name = "fixed"
    mean: float | tuple = 0.0
    std: float | tuple = 1.0
    file: str = ""

    def checked(self) -> None:
        super().checked()
        mean, std = self.statistics()
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            self.refuse("means are finite, standard deviations above 0")
        if len({a.size for a in (mean, std)} - {1}) > 1:
            self.refuse(f"{mean.size} means and {std.size} standard deviations")

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, float64 of one element or one a feature."""
        if self.file:
            return _read(Path(self.file))
        return np.atleast_1d(np.asarray(self.mean, np.float64)), np.atleast_1d(np.asarray(self.std, np.float64))

    def content(self) -> str:
        return f"fixed {[[float(v) for v in a] for a in self.statistics()]}"

    def wide(self, width: int) -> int:
        most = max(a.size for a in self.statistics())
        if most not in (1, width):
            self.refuse(f"{most} numbers for {width} features")
        return width

    def features(self, g: Builder, x: Value, place: Place) -> Value:
        mean, std = self.statistics()
        y = g.mul(x, weight(g, "scale", 1 / std))
        return g.add(y, weight(g, "shift", -mean / std))


def _not_below_0(part: Utterance | Cumulative) -> None:
    if part.eps < 0:
        part.refuse("eps is 0 or more")


def _root(g: Builder, variance: Value, eps: float, on: str) -> Value:
    number = g.const(eps, "f32")
    return g.sqrt(g.add(variance, number)) if on == "variance" else g.add(g.sqrt(variance), number)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation from a file. Raises `UsageError` SC074 where it has none."""
    try:
        if path.suffix == ".json":
            data = json.loads(path.read_text())
        elif path.suffix == ".npy":
            data = dict(zip(("mean", "std"), np.load(path, allow_pickle=False), strict=True))
        else:
            with np.load(path, allow_pickle=False) as arrays:
                data = dict(arrays)
        found = {n: np.asarray(a, np.float64).reshape(-1) for n, a in data.items()}
        if "mean_stat" in found:
            mean = found["mean_stat"] / found["frame_num"]
            return mean, np.sqrt(found["var_stat"] / found["frame_num"] - mean**2)
        return found["mean"], found["std"] if "std" in found else np.sqrt(found["var"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "SC074",
            f"{path} holds no mean and standard deviation ({type(error).__name__}: {error})",
            hints=[".npz with mean and std", ".npy with two rows", ".json with mean and std"],
        ) from None

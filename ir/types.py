"""Tensor types: element type, dimensions that know time, and the scales of quantized tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np

from .errors import IRError
from .expr import Expr, Size, parse_size, same

# int4 values live one to a byte in numpy; only a file format packs them.
DTYPES: dict[str, np.dtype] = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "f64": np.dtype(np.float64),
    "i4": np.dtype(np.int8),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
FLOATS = ("f16", "f32", "f64")
INTEGERS = ("i4", "i8", "u8", "i16", "i32", "i64")
LIMITS = {"i4": (-8, 7), "i8": (-128, 127), "u8": (0, 255), "i16": (-32768, 32767)}


def dtype_of(array: np.ndarray) -> str:
    """The IR's name of a numpy element type."""
    for name, dtype in DTYPES.items():
        if dtype == array.dtype and name != "i4":
            return name
    raise IRError(f"element type {array.dtype} is not supported (one of {', '.join(DTYPES)})")


@dataclass(frozen=True, slots=True)
class Time:
    """What makes a dimension time: index i of step k is frame k*b - delay + i of a stream of `length` frames.

    `clock` names what is followed (audio samples, tokens), `rate` is frames per tick of it, `delay` is in own frames.
    """

    clock: str
    rate: Fraction = Fraction(1)
    delay: int = 0
    length: Size = 0


@dataclass(frozen=True, slots=True)
class Dim:
    """One dimension: its size, and its `Time` if it is time."""

    size: Size
    time: Time | None = None

    @staticmethod
    def of(d: Dim | Size) -> Dim:
        """A dimension as it is, or one of the given size."""
        return d if isinstance(d, Dim) else Dim(d if isinstance(d, Expr) else int(d))

    def __str__(self) -> str:
        if self.time is None:
            return str(self.size)
        size = str(self.size) if isinstance(self.size, int) or str(self.size).isidentifier() else f"({self.size})"
        t, extra = self.time, []
        if t.rate != 1:
            extra.append(str(t.rate))
        if t.delay:
            extra.append(f"d={t.delay}")
        if t.length != self.size:
            extra.append(f"n={t.length}")
        return f"{size}@{t.clock}" + (f"({', '.join(extra)})" if extra else "")


def time_input(size: Size, clock: str) -> Dim:
    """The time dimension of a model input: it ticks with the clock itself."""
    return Dim(size, Time(clock, Fraction(1), 0, size))


def offline(d: Dim) -> bool:
    """Whether a dimension holds its whole stream: its size is the stream's length. A step's holds a piece of it."""
    return d.time is None or same(d.size, d.time.length)


def resized(
    d: Dim, size: Size, rate: Fraction | int = 1, length: Callable[[Size], Size] = lambda n: n, shift: int = 0
) -> Dim:
    """`d` with a new size, its frames now `rate` times as many per tick.

    Offline the length is the size. In a step, whose first element was frame `-delay + shift` of the old frames, the new
    length is `length(old length)`, and the first element must fall on a whole new frame.
    """
    if d.time is None:
        return Dim(size)
    if offline(d):
        return Dim(size, replace(d.time, rate=d.time.rate * Fraction(rate), length=size))
    delay = (d.time.delay - shift) * Fraction(rate)
    if delay.denominator != 1:
        raise IRError(f"{d} starts between two frames of the result")
    return Dim(size, replace(d.time, rate=d.time.rate * rate, delay=int(delay), length=length(d.time.length)))


def edge_free(d: Dim, pads: tuple[Size, Size]) -> None:
    """Raise where a piece of a stream is padded: that would pad every chunk."""
    if pads != (0, 0) and not offline(d):
        raise IRError(f"{d} is a piece of a stream: padding it by {pads} would pad every chunk")


@dataclass(frozen=True, slots=True)
class Quant:
    """real = scale * (stored - zero_point); `axis` and the name of a weight that holds the scales when per channel."""

    scale: float | str
    zero_point: int = 0
    axis: int | None = None

    def __str__(self) -> str:
        scale = f"${self.scale}" if isinstance(self.scale, str) else repr(float(self.scale))
        axis = "" if self.axis is None else f", axis={self.axis}"
        return f"{{scale={scale}, zero={self.zero_point}{axis}}}"


class Tensor:
    """The type of a value: `dtype`, `shape` (of `Dim`) and, for quantized values, `quant`. Immutable."""

    __slots__ = ("dtype", "shape", "quant", "_text")

    def __init__(self, dtype: str, shape: Iterable[Dim | Size] = (), quant: Quant | None = None):
        if dtype not in DTYPES:
            raise IRError(f"unknown element type {dtype!r} (one of {', '.join(DTYPES)})")
        self.dtype, self.shape, self.quant = dtype, tuple(Dim.of(d) for d in shape), quant
        self._text: str | None = None

    @property
    def rank(self) -> int:
        """How many dimensions there are."""
        return len(self.shape)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The size of every dimension."""
        return tuple(d.size for d in self.shape)

    @property
    def static(self) -> bool:
        """Whether every size is known."""
        return all(isinstance(d.size, int) for d in self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating point."""
        return self.dtype in FLOATS

    def with_(self, **changes) -> Tensor:
        """A copy with `dtype`, `shape` or `quant` replaced."""
        return Tensor(
            changes.get("dtype", self.dtype), changes.get("shape", self.shape), changes.get("quant", self.quant)
        )

    def __str__(self) -> str:
        if self._text is None:
            quant = "" if self.quant is None else str(self.quant)
            self._text = f"{self.dtype}[{', '.join(map(str, self.shape))}]{quant}"
        return self._text

    __repr__ = __str__

    def __eq__(self, other) -> bool:
        return isinstance(other, Tensor) and (
            str(self) == str(other)
            or (
                self.dtype == other.dtype
                and self.quant == other.quant
                and self.rank == other.rank
                and all(same_dim(a, b) for a, b in zip(self.shape, other.shape))
            )
        )

    def __hash__(self) -> int:
        return hash((self.dtype, self.rank, self.quant))


def same_dim(a: Dim, b: Dim) -> bool:
    """Whether two dimensions have one size and, where both are time, are in step."""
    if not same(a.size, b.size) or (a.time is None) != (b.time is None):
        return False
    return a.time is None or in_step(a.time, b.time)


def in_step(a: Time, b: Time) -> bool:
    """Whether two time dimensions count the same frames: clock, rate, delay and length agree."""
    return a.clock == b.clock and a.rate == b.rate and a.delay == b.delay and same(a.length, b.length)


def join(a: Dim, b: Dim) -> Dim:
    """The dimension of a pointwise result: equal sizes, or one of them 1; two times must be in step."""
    if a.size == 1 and a.time is None:
        return b
    if b.size == 1 and b.time is None:
        return a
    if not same(a.size, b.size):
        raise IRError(f"sizes differ: {a} and {b}")
    if a.time and b.time and not in_step(a.time, b.time):
        raise IRError(f"out of step: {a} and {b}", hints=["delay the earlier one, so that both carry the same frames"])
    return a if a.time else b


def broadcast(*shapes: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The shape of a pointwise result (numpy's rules, over dimensions)."""
    rank = max(map(len, shapes))
    out = [Dim(1)] * rank
    for shape in shapes:
        offset = rank - len(shape)
        for i, d in enumerate(shape):
            out[offset + i] = join(out[offset + i], d)
    return tuple(out)


def normal_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front."""
    if not -rank <= axis < max(rank, 1):
        raise IRError(f"axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0


_TYPE = re.compile(r"(\w+)\[(.*?)\](?:\{(.*)\})?$", re.S)
_TIME = re.compile(r"(.+?)@(\w+)(?:\((.*)\))?$", re.S)
_QUANT = re.compile(r"scale=(\$)?([^,]+), zero=(-?\d+)(?:, axis=(\d+))?$")


@lru_cache(maxsize=65536)
def parse_type(text: str) -> Tensor:
    """Read a type back from its text."""
    match = _TYPE.match(text.strip())
    if not match:
        raise IRError(f"not a type: {text!r}")
    dtype, dims, quant = match.groups()
    q = None
    if quant is not None:
        found = _QUANT.match(quant)
        if not found:
            raise IRError(f"not a quantization: {quant!r}")
        scale = found[2] if found[1] else float(found[2])
        q = Quant(scale, int(found[3]), None if found[4] is None else int(found[4]))
    return Tensor(dtype, [parse_dim(d) for d in split_commas(dims)], q)


@lru_cache(maxsize=65536)
def parse_dim(text: str) -> Dim:
    """Read a dimension back from its text, for example `32@audio(1/4, d=3, n=T//4)`."""
    match = _TIME.match(text.strip())
    if not match:
        return Dim(parse_size(text))
    size, clock, extra = parse_size(match[1]), match[2], match[3]
    rate, delay, length = Fraction(1), 0, size
    for part in split_commas(extra or ""):
        if part.startswith("d="):
            delay = int(part[2:])
        elif part.startswith("n="):
            length = parse_size(part[2:])
        else:
            rate = Fraction(part)
    return Dim(size, Time(clock, rate, delay, length))


_SPECIAL = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\](){},]')


def split_commas(text: str) -> list[str]:
    """Split at the commas outside brackets and strings."""
    parts, depth, start = [], 0, 0
    for found in _SPECIAL.finditer(text):
        c = found[0]
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start : found.start()].strip())
            start = found.end()
    tail = text[start:].strip()
    return parts + [tail] if tail else parts

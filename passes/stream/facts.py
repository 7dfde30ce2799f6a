"""What the walk knows of every value of the offline graph: constant, stream, coordinate or score."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...ir.errors import UnsupportedError
from ...ir.expr import Expr, Size, evaluate, same, slope, substitute, symbols
from ...ir.graph import Op, Value
from ...ir.types import Dim, Tensor, Time


@dataclass(frozen=True)
class Pads:
    """Frames that a stream is still to be padded with, in front and behind: the window op that reads it adds them.

    `mode` is constant (with `fill`), reflect or edge. `behind` may depend on the length (padding to whole chunks), or
    be negative: frames that are cut off at the end, of a stream that is shifted by as many in front.
    """

    front: int
    behind: Size
    mode: str = "constant"
    fill: float = 0.0

    @property
    def adds_behind(self) -> bool:
        """Whether there is padding behind the last frame."""
        return not isinstance(self.behind, int) or self.behind > 0


@dataclass(frozen=True)
class Const:
    """The same in every step: `value` of the step graph."""

    value: Value


@dataclass(frozen=True)
class Stream:
    """A chunk of a stream: `value` of the step graph, whose type says which frames it holds.

    Frames below 0 and from the end on may be anything, NaN included, unless a rule has replaced them.
    """

    value: Value
    pads: Pads | None = None
    batch: tuple[int, int] | None = None  # the dimension that holds the streams of a batch, and how many rows each has

    @property
    def axis(self) -> int:
        """The dimension that is time."""
        return time_axis(self.value.type)

    @property
    def dim(self) -> Dim:
        """That dimension."""
        return self.value.type.shape[self.axis]

    @property
    def time(self) -> Time:
        """Rate, delay and length of the stream."""
        return self.dim.time


@dataclass(frozen=True)
class Coord:
    """A value that depends on lengths and constants alone (positions, masks); built where a stream needs it."""

    value: Value  # of the offline graph


@dataclass(frozen=True)
class Score:
    """A value with two time dimensions, queries and keys; attention builds it for the window that it looks at."""

    value: Value  # of the offline graph
    reads: tuple[Value, ...] = field(default=())


Fact = Const | Stream | Coord | Score


def time_axis(type: Tensor) -> int:
    """The only dimension that is time."""
    (axis,) = [i for i, d in enumerate(type.shape) if d.time is not None]
    return axis


def growing(type: Tensor) -> list[int]:
    """The dimensions that depend on a length."""
    return [i for i, d in enumerate(type.shape) if isinstance(d.size, Expr)]


def refuse(code: str, what: str, op: Op, *hints: str, why: str = "") -> UnsupportedError:
    """The error for an op that cannot stream: what, where, why, and the rewrites on offer."""
    line = f"{op!r}".split("  @")[0].strip()
    return UnsupportedError(
        code, f"cannot stream {op.kind}: {what}", [str(op.loc), line, *([why] if why else [])], list(hints)
    )


class Sizes:
    """How lengths of the offline graph become sizes of a step of `chunk` ticks: by how fast they grow."""

    def __init__(self, symbol: str, chunk: int, constants: dict[str, int]):
        self.symbol, self.chunk, self.constants = symbol, chunk, constants

    def size(self, size: Size, op: Op | None = None) -> int:
        """Frames in one step of something whose whole length is `size`. Raises SC200 where that is no whole number."""
        size = substitute(size, self.constants)
        if isinstance(size, int):
            return size
        rate = slope(size) if symbols(size) <= {self.symbol} else None
        if rate is None:
            raise UnsupportedError(
                "SC206", f"the size {size} is no multiple of the length", [str(op.loc)] if op else []
            )
        frames = rate * self.chunk
        if frames.denominator != 1:
            fits = self.chunk * frames.denominator
            raise UnsupportedError(
                "SC200",
                f"a step of {self.chunk} input frames holds {frames} frames of a stream of {size}",
                [str(op.loc)] if op else [],
                [f"--stream with a multiple of {rate.denominator} input frames, for example {fits} input frames"],
            )
        return int(frames)

    def attr(self, value, op: Op | None = None):
        """An attribute with lengths replaced by sizes of a step."""
        if isinstance(value, Expr):
            return self.size(value, op)
        if isinstance(value, tuple):
            return tuple(self.attr(v, op) for v in value)
        return value

    def attr_map(self, op: Op) -> dict:
        """All attributes of an op with lengths replaced by sizes of a step."""
        return {name: self.attr(value, op) for name, value in op.attrs.items()}

    def shifts(self, length: Size, frames: int) -> bool:
        """Whether a chunk more of input always makes `frames` more of `length`: steps count from their own start."""
        at = [evaluate(length, {self.symbol: n}) for n in range(-2 * self.chunk, 2 * self.chunk + 1)]
        return all(b - a == frames for a, b in zip(at, at[self.chunk :]))


def same_stream(a: Time, b: Time) -> bool:
    """Whether two streams have one rate and one length, whatever their delays."""
    return a.clock == b.clock and a.rate == b.rate and same(a.length, b.length)

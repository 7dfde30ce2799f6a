"""The frames of a step file: which axis of each port is time, how many frames a step carries, and which are real."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from ..ir.errors import UsageError
from ..ir.expr import Size, evaluate, parse_size, symbols
from .manifest import Manifest, Port

CLOCK_INPUT, RANGE_SUFFIX = "n_valid", ".range"


@dataclass(frozen=True)
class Track:
    """A port along time: index i of step k is frame k*`block` - `delay` + i of a stream of `length` frames."""

    name: str
    axis: int
    batch_axis: int | None
    block: int
    rate: Fraction
    delay: int
    length: Size

    def frames(self, ticks: int | None) -> int:
        """How many real frames a stream has whose clock symbol is `ticks` (None: it has none)."""
        if isinstance(self.length, int):
            return self.length
        return 0 if ticks is None else max(0, evaluate(self.length, dict.fromkeys(symbols(self.length), ticks)))


@dataclass(frozen=True)
class Layout:
    """How the ports of a step file follow its clock: time inputs and outputs, inputs fed at every step, the batch."""

    inputs: tuple[Track, ...]
    outputs: tuple[Track, ...]
    constants: tuple[Port, ...]  # inputs without time
    plain: tuple[str, ...]  # outputs without time: their value after the last step counts
    clocked: bool  # the step takes `n_valid` and gives ranges
    batch: int

    @property
    def chunk(self) -> int:
        """Frames of the first streaming input in a step."""
        return self.inputs[0].block

    def ticks(self, frames: int) -> int | None:
        """The value of the clock's symbol for a stream of `frames` frames of the first streaming input (None: 0).

        Raises `UsageError` SC112 where no stream has that many.
        """
        if frames == 0:
            return None
        length = self.inputs[0].length
        value = solve(length, frames)
        if value is None:
            raise UsageError("SC112", f"a stream has {frames} frames of {self.inputs[0].name}; it takes {length}")
        return value

    def steps(self, frames: int) -> int:
        """How many steps it takes until every output of a stream of `frames` input frames is out."""
        ticks = self.ticks(frames)
        ends = [-(-(t.frames(ticks) + t.delay) // t.block) for t in self.outputs if t.frames(ticks)]
        return max([-(-frames // self.chunk), *ends])


def solve(length: Size, frames: int) -> int | None:
    """The value of the only symbol of a size at which it is `frames`; None where there is none."""
    names = symbols(length)
    if len(names) != 1:
        return None
    at = lambda n: evaluate(length, dict.fromkeys(names, n))
    low, high = 1, 1
    while at(high) < frames and high < 1 << 40:
        high *= 2
    while low < high:  # lengths do not shrink as the clock runs
        middle = (low + high) // 2
        low, high = (middle + 1, high) if at(middle) < frames else (low, middle)
    return low if at(low) == frames else None


def layout_of(manifest: Manifest, batch: int | None = None) -> Layout:
    """The layout of a step file; `batch` where its manifest does not say. Raises `UsageError` SC050 for other files."""
    clock = next((p for p in manifest.inputs if p.name == CLOCK_INPUT and p.time is None), None)
    if batch is None:
        batch = manifest.streaming["batch"] if manifest.streaming else (clock.shape[0] if clock else 1)
    ranges = {p.name for p in manifest.outputs if p.name.endswith(RANGE_SUFFIX)} if clock else set()
    model = [p for p in manifest.outputs if p.name not in ranges]
    inputs = tuple(_tracks(manifest.inputs, batch))
    if not inputs or any(not isinstance(p.shape[p.time["axis"]], int) for p in manifest.inputs if p.time):
        raise UsageError(
            "SC050",
            f"{manifest.artefact or 'this graph'} takes whole utterances, not chunks",
            hints=["compile it with --stream DURATION"],
        )
    return Layout(
        inputs,
        tuple(_tracks(model, batch)),
        tuple(p for p in manifest.inputs if p.time is None and p is not clock),
        tuple(p.name for p in model if p.time is None),
        clock is not None,
        batch,
    )


def _tracks(ports: Iterable[Port], batch: int) -> Iterable[Track]:
    for p in ports:
        if p.time is not None:
            axis, length = p.time["axis"], p.time["length"]
            yield Track(
                p.name,
                axis,
                batch_axis(p, batch),
                p.shape[axis],
                Fraction(p.time["rate"]),
                p.time["delay"],
                length if isinstance(length, int) else parse_size(length),
            )


def batch_axis(p: Port, batch: int) -> int | None:
    """The axis of a port that counts the streams, None where none does.

    Where the port does not say, the first of that size that is not time.
    """
    if p.batch_axis is not None:
        return p.batch_axis
    time = p.time["axis"] if p.time else None
    return next((i for i, n in enumerate(p.shape) if i != time and n == batch), None)

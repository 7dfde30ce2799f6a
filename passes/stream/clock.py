"""The clock of a step graph: which frames of a chunk are real, counted from the start of the step.

Counting from the step's own start keeps every number small: a stream may run for ever. A length N(T) becomes
`N(left)`, where `left` is how many input frames the stream still had when this step began: a step is a whole number of
frames of every stream, so N(k·B + left) = k·b + N(left). Counters stop (or go round, where an attention chunk is longer
than a step) once nothing asks for more.
"""

from __future__ import annotations

import math

import numpy as np

from ...ir.errors import UnsupportedError
from ...ir.expr import Div, Extreme, Size, evaluate, substitute
from ...ir.graph import Builder, Graph, Loc, Op, Value
from ...ir.types import Dim, Tensor, Time
from .facts import Sizes

HERE = Loc("clock", passes=("streaming",))


class Clock:
    """Makes counters and masks in front of all other ops, as they are asked for, each once."""

    def __init__(self, graph: Graph, sizes: Sizes, streams: int):
        self.graph, self.sizes, self.streams = graph, sizes, streams
        self.anchor: Op | None = None
        self.used = False
        self._made: dict[tuple, Value] = {}
        self._least_steps, self._period = 1, 1
        self._least_left, self._most_behind = 1, 1  # input frames
        self._constants: dict[str, Value] = {}

    def start(self) -> None:
        """Mark the place of the clock's ops; `finish` removes the mark."""
        self.anchor = Builder(self.graph, HERE).size(of=0).op

    @property
    def b(self) -> Builder:
        """Builds where every reader comes later."""
        return Builder(self.graph, HERE, before=self.anchor)

    def _once(self, key: tuple, make) -> Value:
        if key not in self._made:
            self.used = True
            self._made[key] = make()
        return self._made[key]

    def _constant(self, name: str) -> Value:
        """A number that is known only when everything has been asked for."""
        return self._constants.setdefault(name, self.graph.const(0, "i32"))

    def _state(self, name: str, initial: int = 0) -> Value:
        return self.graph.state(f"clock.{name}", Tensor("i32", (self.streams,)), initial)

    def int(self, n: int) -> Value:
        """A literal."""
        return self.graph.const(n, "i32")

    # -- counters --------------------------------------------------------------------------------------------------
    @property
    def valid(self) -> Value:
        """The input that says how many frames of this step are real, i32[streams]."""
        return self._once(("valid",), lambda: self.graph.input("n_valid", Tensor("i32", (self.streams,))))

    def steps(self, least: int = 1, period: int = 1) -> Value:
        """Steps since the start, i32[streams]: exact below `least`, and always modulo `period`."""
        self._least_steps = max(self._least_steps, least)
        self._period = math.lcm(self._period, period)

        def make() -> Value:
            state, b = self._state("steps"), self.b
            now = b.read(state)
            after = b.add(now, self.int(1))
            b.write(state, b.where(b.less(after, self._constant("wrap")), after, self._constant("base")))
            return now

        return self._once(("steps",), make)

    def position(self) -> Value:
        """Steps since the start, i32[streams], for tables of positions: it never stops."""

        def make() -> Value:
            state, b = self._state("position"), self.b
            now = b.read(state)
            b.write(state, b.add(now, self.int(1)))
            return now

        return self._once(("position",), make)

    def left(self) -> Value:
        """Input frames from the start of this step to the end of the stream, i32[streams]; a large number before it."""

        def make() -> Value:
            b, many = self.b, self._constant("many")
            chunk = self.int(self.sizes.chunk)
            state = self._state("left")
            ending = b.where(b.less(self.valid, chunk), self.valid, many)
            now = b.minimum(b.read(state), ending)
            after = b.maximum(b.sub(now, chunk), self._constant("few"))
            b.write(state, b.where(b.less(now, many), after, many))
            return now

        return self._once(("left",), make)

    def end(self, time: Time) -> Value:
        """N(T) counted from the first frame that this step adds to a stream without delay, i32[streams]."""
        frames = time.rate * self.sizes.chunk
        length = substitute(time.length, self.sizes.constants)
        if not self.sizes.shifts(length, int(frames)):
            raise UnsupportedError("SC206", f"the length {length} does not grow evenly with the input")
        behind = evaluate(length, {self.sizes.symbol: 0}) + time.delay
        self._most_behind = max(self._most_behind, math.ceil(behind / time.rate))
        return self._once(("end", str(length)), lambda: self._number(length))

    def ask(self, time: Time, frames: int) -> None:
        """Ask that the end, before it is known, is more than `frames` frames away."""
        short = frames - evaluate(substitute(time.length, self.sizes.constants), {self.sizes.symbol: 0})
        self._least_left = max(self._least_left, math.ceil(short / time.rate))

    def _number(self, size: Size) -> Value:
        """A size with the frames left for its symbol."""
        if isinstance(size, int):
            return self.int(size)
        total: Value | None = None
        for monomial, factor in size.terms:
            value = self._product(monomial, factor)
            total = value if total is None else self.b.add(total, value)
        return total

    def _product(self, monomial, factor: int) -> Value:
        if not monomial:
            return self.int(factor)
        (atom,) = monomial
        match atom:
            case Div(of, by):
                value = self.b.floor_div(self._number(of), self.int(by))
            case Extreme(kind, args):
                value, *others = map(self._number, args)
                for other in others:
                    value = self.b.emit("minimum" if kind == "min" else "maximum", (value, other))
            case _:
                value = self.left()
        return value if factor == 1 else self.b.mul(value, self.int(factor))

    # -- frames ----------------------------------------------------------------------------------------------------
    def column(self, v: Value) -> Value:
        """i32[streams] beside a row of frames: [streams, 1] ([1] for a single stream)."""
        return (
            v
            if self.streams == 1
            else self._once(("column", id(v)), lambda: self.b.reshape(v, shape=(self.streams, 1)))
        )

    def numbers(self, first: int, count: int) -> Value:
        """first, first + 1, …: `count` numbers, i32."""
        name = f"clock.frames.{first}.{count}".replace("-", "m")
        array = np.arange(first, first + count, dtype=np.int32)
        return self._once(("numbers", first, count), lambda: self.graph.weight(name, array))

    def frames(self, time: Time, count: int, true: bool = False) -> Value:
        """The number of every frame of a chunk, i32[streams, count] ([count] for a single stream).

        `true`: at any time; else only until every frame asked about has a number of 0 or more.
        """
        b = int(time.rate * self.sizes.chunk)
        steps = self.position() if true else self.steps(self._until(time))
        start = self._once(("start", true, b), lambda: self.b.mul(steps, self.int(b)))
        return self._once(
            ("frame", true, b, time.delay, count),
            lambda: self.b.add(self.column(start), self.numbers(-time.delay, count)),
        )

    def _until(self, time: Time) -> int:
        """Steps until a stream of this delay holds no frame below 0."""
        return -(-time.delay // int(time.rate * self.sizes.chunk)) + 1

    def real(self, d: Dim, front: bool = True, behind: bool = True) -> Value | None:
        """Which frames of a chunk `d` are real, bool[streams, frames] ([frames] for a single stream).

        `front` asks for frames of 0 or more, `behind` for frames before the end.
        """
        t, count = d.time, d.size
        front = front and t.delay > 0
        if not front and not behind:
            return None
        if behind:
            self.ask(t, count - t.delay + 1)

        def make() -> Value:
            begun = ended = None
            if front:
                begun = self.b.less_equal(self.int(0), self.frames(t, count))
            if behind:
                ended = self.b.less(self.numbers(-t.delay, count), self.column(self.end(t)))
            return self.b.logical_and(begun, ended) if begun is not None and ended is not None else begun or ended

        return self._once(("real", str(d), front, behind), make)

    def range(self, d: Dim) -> Value:
        """[first, last) of the real frames in a chunk of an output, i32[streams, 2]."""
        t, count, b, n = d.time, d.size, self.b, self.streams
        step = int(t.rate * self.sizes.chunk)
        self.ask(t, count)
        clip = lambda v: b.minimum(b.maximum(v, self.int(0)), self.int(count))
        if t.delay:
            begun = b.mul(self.steps(self._until(t)), self.int(step))
            first = clip(b.sub(self.int(t.delay), begun))
        else:
            first = b.expand(self.int(0), shape=(n,))
        last = b.maximum(first, clip(b.add(self.end(t), self.int(t.delay))))
        return b.concat(b.reshape(first, shape=(n, 1)), b.reshape(last, shape=(n, 1)), axis=1)

    # -- the end of the walk ---------------------------------------------------------------------------------------
    def finish(self) -> None:
        """Fill in the constants that depend on all that was asked for, and remove the mark."""
        self.graph.erase(self.anchor)
        base = self._period * -(-self._least_steps // self._period)
        many = self.sizes.chunk * (2 + -(-self._least_left // self.sizes.chunk))
        few = -self._most_behind - 2 * self.sizes.chunk
        for name, number in {"base": base, "wrap": base + self._period, "many": many, "few": few}.items():
            if name in self._constants:
                self._constants[name].payload[...] = number
        if "clock.left" in self.graph.states:
            self.graph.states["clock.left"].payload.initial = many

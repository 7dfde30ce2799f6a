"""Random offline graphs made of ops that stream: `stream_graphs()` for hypothesis, `plans(count)` for a fixed suite.

A graph is drawn from a `Plan`: the names of builders (the tables are `stream_case_table*.py`) and a seed for each, so
that leaving one out changes nothing in the others; a failing plan is made smaller that way (`reduced`). Numbers stay of
unit size and away from ties. A new streaming rule needs a builder in a table.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from hypothesis import strategies as st
from op_cases import Drawing, Unfit, make_values
from speechc.ir.expr import Expr, Size, evaluate, minimum, same, symbol
from speechc.ir.graph import Graph, Loc, Module, Value
from speechc.ir.types import Time, time_input

BUILDERS: dict[str, Callable] = {}
WEIGHTS: dict[str, float] = {}  # how often a builder is dealt, 1 being the rule
EXACT_ONLY: set[str] = set()  # builders with jumps: a rounding of float32 may fall on the other side
T = symbol("T")
LONGEST = 96  # frames of an input
EVEN, UNEVEN = "chunk divides step", "chunk does not divide step"  # of attention


def builder(*names: str, often: float = 1.0, jumps: bool = False) -> Callable:
    """Register `build(d, x)` (`build(d, x, name)` for several names): x is a stream, the result one or several."""

    def register(build):
        for name in names:
            BUILDERS[name] = (lambda d, x, name=name: build(d, x, name)) if len(names) > 1 else build
            WEIGHTS[name] = often
            if jumps:
                EXACT_ONLY.add(name)
        return build

    return register


@dataclass(frozen=True)
class Plan:
    """What to draw: `steps` are builders with a seed each."""

    seed: int
    steps: tuple[tuple[str, int], ...]
    dtype: str = "f64"


@dataclass
class StreamCase:
    """An offline graph, the batch it is for, a step that fits its rates, and the lengths of the batch's streams."""

    plan: Plan
    module: Module
    batch: int
    base: int  # least step: all rates give whole frames
    step: int
    lengths: tuple[int, ...]
    least: int  # shortest and longest input at which every tensor has elements
    most: int
    features: Counter

    @property
    def graph(self) -> Graph:
        return self.module.main

    def feeds(self, length: int, salt: int = 0) -> dict[str, np.ndarray]:
        """Inputs of `length` frames; those of a longer one begin with those of a shorter one."""
        out = {}
        for i, v in enumerate(self.graph.inputs):
            axis = time_axis(v)
            rng = np.random.default_rng((self.plan.seed, 0 if axis is None else salt, i))
            long = make_values(rng, "normal", v.type, {"T": LONGEST, "batch": self.batch})
            out[v.name] = long if axis is None else np.ascontiguousarray(np.take(long, np.arange(length), axis))
        return out

    @cached_property
    def kinds(self) -> Counter:
        """How many ops of each kind."""
        return Counter(op.kind for op in self.graph.ops)

    @cached_property
    def changes_rate(self) -> bool:
        return any(t.rate != 1 for op in self.graph.ops for r in op.results for t in times(r))

    def __repr__(self) -> str:
        return (
            f"StreamCase(batch={self.batch}, step={self.step}, lengths={self.lengths}, least={self.least})\n"
            f"drawn({self.plan})\n{self.module}"
        )


def times(v: Value) -> list[Time]:
    """The times among the dimensions of a value."""
    return [d.time for d in v.type.shape if d.time is not None]


def time_axis(v: Value) -> int | None:
    """Which axis of a value is time, if any is."""
    return next((i for i, d in enumerate(v.type.shape) if d.time is not None), None)


class Streams(Drawing):
    """A graph being drawn: streams of rank 2 or 3 in `pool`, time at one axis and the batch at the first."""

    def __init__(self, plan: Plan):
        super().__init__(lambda _: plan.seed, (plan.dtype,))
        self.dt = plan.dtype
        self.start(plan.seed)
        self.streams = self.pick((1, 1, 2, 3))
        # A batch of several streams is a symbol, which tells them from other dimensions.
        self.batch: Size = symbol("batch") if self.streams > 1 or self.flag(0.3) else 1
        self.pool: list[Value] = []
        self.integers: list[Value] = []  # tokens: ends of the graph
        self.caps: list[tuple[Size, int]] = []  # sizes of tables
        self.least_sizes: list[Size] = []  # sizes that have to be 1 or more
        self.features: Counter = Counter()
        self.chunks: list[tuple[int, Fraction]] = []  # of attention, in frames, and the rate of these
        self.denominators, self.current = 1, Counter()

    def start(self, seed: int) -> None:
        self.random, self.rng = random.Random(seed), np.random.default_rng(seed)

    # -- choices ---------------------------------------------------------------------------------------------------
    def int(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def flag(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def pick(self, options):
        return self.random.choice(list(options))

    def feature(self, name: str) -> None:
        """Note what a builder made, for the histogram; it counts if the builder succeeds."""
        self.current[name] += 1

    # -- rates -----------------------------------------------------------------------------------------------------
    def rate(self, v: Value) -> Fraction:
        return times(v)[0].rate

    def scaled(self, v: Value, factor: Fraction | int) -> None:
        """Ask for frames at `factor` times the rate of v; raises Unfit where steps or tensors would become long."""
        rate = self.rate(v) * Fraction(factor)
        lcm = math.lcm(self.denominators, rate.denominator)
        if lcm > 12 or not Fraction(1, 12) <= rate <= 3:
            raise Unfit
        self.denominators = lcm

    # -- streams ---------------------------------------------------------------------------------------------------
    def frames(self, v: Value) -> Size:
        return v.type.sizes[time_axis(v)]

    def channels(self, v: Value) -> int:
        return 1 if v.type.rank == 2 else v.type.sizes[3 - time_axis(v)]

    def first(self, v: Value) -> Value:
        """[N, C, T]"""
        if v.type.rank == 2:
            return self.b.reshape(v, shape=(self.batch, 1, self.frames(v)))
        return v if time_axis(v) == 2 else self.b.transpose(v, perm=(0, 2, 1))

    def last(self, v: Value) -> Value:
        """[N, T, C]"""
        if v.type.rank == 2:
            return self.b.reshape(v, shape=(self.batch, self.frames(v), 1))
        return v if time_axis(v) == 1 else self.b.transpose(v, perm=(0, 2, 1))

    def flat(self, v: Value) -> Value:
        """[N, T], the mean of the channels."""
        return v if v.type.rank == 2 else self.b.mean(v, axes=(3 - time_axis(v),))

    def like(self, v: Value, x: Value) -> Value:
        """v in the layout and with the channels of x."""
        if x.type.rank == 2:
            return self.flat(v)
        c = self.channels(x)
        if self.channels(v) not in (c, 1):
            v = self.linear(v, c)
        return self.last(v) if time_axis(x) == 1 else self.first(v)

    def linear(self, v: Value, units: int) -> Value:
        """[N, T, units]"""
        v = self.last(v)
        w = self.weights(units, self.channels(v), dtype=self.dt)
        return self.b.linear(v, w, self.maybe(lambda: self.weight([units], self.dt, scale=0.3)))

    def const(self, number) -> Value:
        return self.b.const(number, self.dt)

    def repeated(self, shape, scale: float = 1.0) -> Value:
        """A constant [batch, *shape], the same for every stream."""
        v = self.weight([1, *shape], self.dt, scale=scale)
        return v if self.batch == 1 else self.b.expand(v, shape=(self.batch, *shape))

    def vector(self, x: Value, values: str = "normal", scale: float = 1.0) -> Value:
        """One number a channel, shaped to join with x."""
        shape = [1 if i in (0, time_axis(x)) else s for i, s in enumerate(x.type.sizes)]
        return self.weight(shape[self.int(0, 1) :], self.dt, values, scale)

    def mate(self, x: Value) -> Value:
        """Another stream of the same frames, in the layout of x; one is made where there is none."""
        near = [v for v in self.pool if v is not x and v.type.is_float and self.in_step(v, x)]
        if near and self.flag(0.7):
            return self.like(self.pick(near), x)
        return self.like(self.shifted(x), x)

    def in_step(self, v: Value, x: Value) -> bool:
        return self.rate(v) == self.rate(x) and same(self.frames(v), self.frames(x))

    def shifted(self, x: Value) -> Value:
        """x through a window of as many frames, which look ahead or back."""
        x, reach = self.first(x), self.int(2, 4)
        c, before = x.type.sizes[1], self.int(0, reach - 1)
        w = self.weights(c, 1, reach, dtype=self.dt)
        return self.b.conv(x, w, None, pad=((before, reach - 1 - before),), groups=c)

    def cropped(self, v: Value, frames: Size) -> Value:
        """The first `frames` frames."""
        return v if same(self.frames(v), frames) else self.b.slice(v, axis=time_axis(v), start=0, stop=frames)

    def common(self, a: Value, b: Value) -> tuple[Value, Value]:
        """Both, cropped to the shorter; to the smaller of two lengths only where neither is always the shorter."""
        one, two = self.frames(a), self.frames(b)
        more = [evaluate(one - two, {"T": n}) for n in range(1, LONGEST)]
        frames = two if min(more) >= 0 else one if max(more) <= 0 else minimum(one, two)
        return self.cropped(a, frames), self.cropped(b, frames)

    # -- the end ---------------------------------------------------------------------------------------------------
    def works(self, n: int) -> bool:
        sizes = {s for op in self.graph.ops for r in op.results for s in r.type.sizes if isinstance(s, Expr)}
        return all(evaluate(s, {"T": n, "batch": 1}) > 0 for s in (*sizes, *self.least_sizes))

    def holds(self, n: int) -> bool:
        return all(evaluate(s, {"T": n}) <= most for s, most in self.caps)


def drawn(plan: Plan) -> StreamCase:
    """The graph of a plan; every choice follows from the plan's seeds."""
    _load()
    d = Streams(plan)
    shape = {"first": (d.batch, d.int(1, 4), T), "last": (d.batch, T, d.int(1, 4)), "flat": (d.batch, T)}
    layout = d.pick(("first", "last", "flat"))
    for _ in range(1 + d.flag(0.1)):
        dims = [time_input(s, "audio") if s is T else s for s in shape[layout]]
        d.pool.append(d.input(dims, d.dt))
    for number, (name, seed) in enumerate(plan.steps):
        d.start(seed)
        d.b.loc = Loc(f"net.{number}.{name}", "Case", f"case.py:{number + 1}")
        # Delays and joins come of working on what is newest.
        x = d.pool[-1] if d.flag(0.75) else d.pick(d.pool)
        _build(d, name, x)
    return _finished(d, plan)


def _build(d: Streams, name: str, x: Value) -> None:
    d.current.clear()
    before, denominators = d.graph._last, d.denominators
    if d.channels(x) > 5 and x.type.is_float:
        x = d.linear(x, 3)
    try:
        made = BUILDERS[name](d, x)
    except Unfit:
        d.denominators = denominators
        while d.graph._last is not before:  # what was built so far
            d.graph.erase(d.graph._last)
        return
    d.features.update({name, *d.current})
    for v in made if isinstance(made, tuple) else (made,):
        (d.pool if v.type.is_float else d.integers).append(v)


def _finished(d: Streams, plan: Plan) -> StreamCase:
    kept = [v for v in (*d.pool, *d.integers) if v.kind == "result" and not v.users] or [d.b.tanh(d.pool[0])]
    for i, v in enumerate(kept[-5:]):
        d.graph.output(v, f"y{i}")
    d.graph.sweep()
    least, most = 1, LONGEST
    while least < LONGEST and not d.works(least):
        least += 1
    while most > least and not d.holds(most):
        most -= 1
    d.start(plan.seed + 1)
    step = d.denominators * d.pick((1, 1, 2, 3, 5))
    while step > 24 and step > d.denominators:
        step -= d.denominators
    for chunk, rate in d.chunks:
        d.features[EVEN if rate * step % chunk == 0 else UNEVEN] += 1
    lengths = tuple(_length(d, step, least, most) for _ in range(d.streams))
    return StreamCase(plan, d.module, d.streams, d.denominators, step, lengths, least, most, d.features)


def _length(d: Streams, step: int, least: int, most: int) -> int:
    """Below a step, about one, a few steps and some."""
    longest = {0: step - 1, 1: step + 1, 2: least + 2 * step, 3: max(least + 4, 12) + 5 * step}[d.int(0, 3)]
    return min(d.int(least, max(least, longest)), most, max(least, 60))


# -- plans -----------------------------------------------------------------------------------------------------------
def _load() -> None:
    import stream_case_table  # noqa: F401
    import stream_case_table_long  # noqa: F401


@st.composite
def stream_graphs(draw, least: int = 1, most: int = 12, dtypes: tuple[str, ...] = ("f64",)) -> StreamCase:
    """Any graph of `least` to `most` builders."""
    _load()
    dtype = draw(st.sampled_from(dtypes))
    names = st.sampled_from(sorted(set(BUILDERS) - (EXACT_ONLY if dtype == "f32" else set())))
    steps = draw(st.lists(st.tuples(names, st.integers(0, 2**20)), min_size=least, max_size=most))
    return drawn(Plan(draw(st.integers(0, 2**20)), tuple(steps), dtype))


def plans(count: int, seed: int = 0, only: Callable[[str], bool] = lambda name: True) -> Iterator[Plan]:
    """The same plans every time, every builder dealt as often as its weight says; one in eight is float32."""
    _load()
    rng, deck = random.Random(seed), []
    names = [n for n in BUILDERS if only(n)]
    for i in range(count):
        steps = []
        for _ in range(rng.randint(6, 11)):
            if not deck:
                deck = [n for n in names for _ in range(int(WEIGHTS[n]) + (rng.random() < WEIGHTS[n] % 1))]
                rng.shuffle(deck)
            steps.append((deck.pop(), rng.randrange(2**32)))
        dtype = "f32" if i % 8 == 7 else "f64"
        if dtype == "f32":
            steps = [s for s in steps if s[0] not in EXACT_ONLY]
        yield Plan(rng.randrange(2**32), tuple(steps), dtype)


def reduced(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """A plan of fewer steps that still fails."""
    going = True
    while going:
        going = False
        for i in reversed(range(len(plan.steps))):
            shorter = replace(plan, steps=plan.steps[:i] + plan.steps[i + 1 :])
            if shorter.steps and fails(shorter):
                plan, going = shorter, True
    return plan


def histogram(graphs: list[dict]) -> str:
    """What a run of the suite held: graphs, ops, shares, and how many graphs had each kind of op and each builder."""
    n, middle = len(graphs), lambda key: sorted(g[key] for g in graphs)[len(graphs) // 2]
    share = lambda key: f"{100 * sum(map(bool, (g[key] for g in graphs))) / n:.0f} %"
    lines = [
        f"{n} graphs, {middle('ops')} ops in the middle one ({middle('step ops')} in its step)",
        f"{share('joins')} join streams that are not equally late, {share('rates')} change the rate",
    ]
    for key in ("kinds", "builders"):
        counts = Counter(name for g in graphs for name in g[key]).most_common()
        lines.append(f"{key}: " + ", ".join(f"{name} {count}" for name, count in counts))
    return "\n".join(lines)

"""Random well-typed graphs for property tests: `op_case(kind)` of one op, `random_graph(max_ops)` of several.

Numbers are small and benign (unit scale, away from ties and discontinuities), so that implementations can be compared.
The tables of cases are in `op_case_table.py` and `op_case_table_moves.py`; a new op needs an entry there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st
from speechc.ir.expr import Size, evaluate, symbol, symbols
from speechc.ir.graph import Builder, Graph, Loc, Module, Value
from speechc.ir.types import DTYPES, Dim, Quant, Tensor, time_input


class Unfit(Exception):
    """A value does not suit an op; in a random graph another pair is tried."""


@dataclass
class Case:
    """A graph, the sizes of its symbols, and how to make its inputs (at these sizes or larger ones)."""

    module: Module
    sizes: dict[str, int]
    seed: int
    values: dict[str, str | tuple]  # input: kind of values

    @property
    def graph(self) -> Graph:
        return self.module.main

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return self.at()

    def at(self, **sizes: int) -> dict[str, np.ndarray]:
        """Inputs for other sizes of the symbols (each at least as large as in `sizes`)."""
        sizes = {**self.sizes, **sizes}
        rng = np.random.default_rng(self.seed)
        return {v.name: make_values(rng, self.values[v.name], v.type, sizes) for v in self.graph.inputs}

    def longer(self, more: int = 3) -> dict[str, np.ndarray]:
        """Inputs whose every symbolic size is larger by `more`."""
        return self.at(**{name: n + more for name, n in self.sizes.items()})

    def __repr__(self) -> str:
        return f"Case(sizes={self.sizes}, seed={self.seed})\n{self.graph}"


def make_values(rng: np.random.Generator, how: str | tuple, type: Tensor, sizes=None) -> np.ndarray:
    """An array of `type`: `how` is one of the kinds below, or ("index", bound)."""
    shape = tuple(evaluate(s, sizes or {}) for s in type.sizes)
    dtype = DTYPES[type.dtype]
    if isinstance(how, tuple):
        return np.asarray(rng.integers(0, evaluate(how[1], sizes or {}), shape), dtype)
    if type.dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if np.issubdtype(dtype, np.integer):
        low, high = {"positive": (1, 6), "small": (0, 4)}.get(how, (-5, 6))
        return np.asarray(rng.integers(low, high, shape), dtype)
    made = {
        "normal": lambda: rng.standard_normal(shape),
        "small": lambda: rng.uniform(0, 2, shape),
        "positive": lambda: rng.uniform(0.3, 2, shape),
        "distinct": lambda: (rng.permutation(math.prod(shape)).reshape(shape) - math.prod(shape) // 2) * 0.1,
        # A third of a unit away from whole and half numbers: nothing to tie, nothing to round two ways.
        "away": lambda: rng.integers(-6, 6, shape) / 2 + 0.25 + rng.uniform(-0.1, 0.1, shape),
        # Odd eighths over powers of two are never whole, and exact in every float type.
        "eighths": lambda: (2 * rng.integers(-16, 16, shape) + 1) / 8,
        "halves": lambda: rng.choice([-1.0, -0.5, 0.5, 1.0], shape),
    }[how]
    return np.asarray(made(), dtype)


@dataclass
class Spec:
    """What a case wants of the operand `x` that it is given."""

    build: Callable
    ranks: tuple[int, int] = (1, 4)
    static: tuple[int, ...] = ()  # axes whose size must be known
    values: str = "normal"
    dtypes: str = "float"  # float, number (and integers), any (and bool)
    chain: bool = True  # finite and smooth for any input of moderate size: may stand in a random graph
    source: bool = True  # wants an operand x at all
    least: int = 1  # smallest size of a dimension of a drawn x
    extra: dict = field(default_factory=dict)


CASES: dict[str, Spec] = {}
FORMS: dict[str, Spec] = {}  # graphs of several ops that belong together: quantized forms


def case(*kinds: str, table: dict[str, Spec] | None = None, **spec):
    """Register `build(d, x)` (or `build(d, x, kind)` for several kinds), which builds one op and gives its results."""

    def register(build):
        for kind in kinds:
            one = (lambda d, x, kind=kind: build(d, x, kind)) if len(kinds) > 1 else build
            (CASES if table is None else table)[kind] = Spec(one, **spec)
        return build

    return register


INTEGER_TYPES = ("i32", "i64")


class Drawing:
    """A graph being drawn: sizes, inputs, weights, and (in a random graph) the pool of values to join with."""

    def __init__(self, draw, floats: tuple[str, ...] = ("f32",), symbolic: bool = True):
        self.draw, self.floats, self.symbolic = draw, floats, symbolic
        self.module = Module()
        self.graph = self.module.graph("main")
        self.b = Builder(self.graph, Loc("case.op", "Case", "case.py:1"))
        self.sizes: dict[str, int] = {}
        self.values: dict[str, str | tuple] = {}
        self.dims: dict[str, Dim] = {}  # of each symbol, so that time stays in step
        self.seed = draw(st.integers(0, 2**16))
        self.rng = np.random.default_rng(self.seed + 1)
        self.pool: list[Value] | None = None

    # -- choices ---------------------------------------------------------------------------------------------------
    def int(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def pick(self, options):
        return self.draw(st.sampled_from(list(options)))

    def float(self) -> str:
        return self.pick(self.floats)

    def dtype(self, what: str) -> str:
        options = {"float": self.floats, "number": (*self.floats, *INTEGER_TYPES)}
        return self.pick(options.get(what) or (*self.floats, *INTEGER_TYPES, "bool"))

    def axis(self, x: Value) -> int:
        return self.int(0, x.type.rank - 1)

    # -- sizes -----------------------------------------------------------------------------------------------------
    def dim(self, low: int = 1, high: int = 5) -> Dim:
        """A dimension of at least `low`: a number, or a symbol (perhaps time, perhaps twice a symbol)."""
        n = self.int(low, max(low, high))
        form = self.int(0, 5) if self.symbolic and len(self.sizes) < 2 else 0
        if form < 3:
            return Dim(n)
        name = ("T", "U")[len(self.sizes)]
        self.sizes[name] = (n + 1) // 2 if form == 5 else n
        size = symbol(name) * 2 if form == 5 else symbol(name)
        return time_input(size, f"clock_{name}") if form != 3 else Dim(size)

    def n(self, size: Size) -> int:
        """What a size is in this drawing; where it is symbolic, what it is at least."""
        return evaluate(size, self.sizes)

    # -- values ----------------------------------------------------------------------------------------------------
    def input(self, shape, dtype: str | None = None, values: str | tuple = "normal") -> Value:
        name = f"x{len(self.graph.inputs)}"
        self.values[name] = values
        return self.graph.input(name, Tensor(dtype or self.float(), shape))

    def source(self, spec: Spec, rank: int | None = None) -> Value:
        rank = self.int(*spec.ranks) if rank is None else rank
        static = {a % rank for a in spec.static} if rank else set()
        shape = [Dim(self.int(max(1, spec.least), 5)) if i in static else self.dim(spec.least) for i in range(rank)]
        return self.input(shape, self.dtype(spec.dtypes), spec.values)

    def weight(self, shape, dtype: str, values: str = "normal", scale: float = 1.0, quant=None) -> Value:
        """A constant operand; sizes must be known."""
        array = make_values(self.rng, values, Tensor(dtype, shape))
        if scale != 1.0:
            array = (array * scale).astype(array.dtype)
        return self.b.weight("w", array, quant=quant)

    def weights(self, *shape: int, dtype: str, fan: int | None = None) -> Value:
        """A matrix or kernel scaled so that a product with unit inputs has unit size."""
        return self.weight(shape, dtype, scale=1 / math.sqrt(fan or math.prod(shape[1:]) or 1))

    def maybe(self, make: Callable[[], Value]) -> Value | None:
        """An optional operand, present or absent."""
        return make() if self.flag() else None

    def operand(self, shape, dtype: str, values: str | tuple = "normal") -> Value:
        """A second operand: an input, or a weight where the sizes are known. A random graph draws fewer inputs."""
        shape = [Dim.of(d) for d in shape]
        static = all(isinstance(d.size, int) for d in shape)
        if static and not isinstance(values, tuple) and (self.flag() or self.pool is not None):
            return self.weight([d.size for d in shape], dtype, values)
        if self.pool is not None and len(self.graph.inputs) >= 4:
            raise Unfit
        return self.input(shape, dtype, values)

    def mate(self, x: Value, values: str = "normal") -> Value:
        """Something that broadcasts with x and has its element type."""
        if self.pool is not None:
            near = [v for v in self.pool if v.type.dtype == x.type.dtype and v.type.shape == x.type.shape]
            if near and self.flag():
                return self.pick(near)
        form = self.int(0, 3)
        if form == 0 and x.type.dtype != "bool":
            array = make_values(self.rng, values, Tensor(x.type.dtype))
            return self.b.const(array.item(), x.type.dtype)
        shape = [Dim(1) if self.int(0, 3) == 0 else d for d in x.type.shape]
        if form == 1:
            shape = shape[self.int(0, len(shape)) :]
        return self.operand(shape, x.type.dtype, values)

    def fitting(self, spec: Spec, x: Value) -> bool:
        t = x.type
        low, high = spec.ranks
        kinds = {"float": t.is_float, "number": t.dtype != "bool"}
        return (
            low <= t.rank <= high
            and kinds.get(spec.dtypes, True)
            and all(isinstance(t.sizes[a], int) for a in spec.static)
            and all(self.n(s) >= spec.least for s in t.sizes)
        )

    def finish(self, outputs: list[Value]) -> Case:
        for i, v in enumerate(outputs):
            self.graph.output(v, f"y{i}")
        # A symbol that no input mentions any more (its drawing was given up) has no size to bind.
        used = set().union(*(symbols(s) for v in self.graph.inputs for s in v.type.sizes), set())
        sizes = {name: n for name, n in self.sizes.items() if name in used}
        return Case(self.module, sizes, self.seed, self.values)


def _table() -> dict[str, Spec]:
    import op_case_table  # noqa: F401  registers the cases
    import op_case_table_moves  # noqa: F401

    return {**FORMS, **CASES}


@st.composite
def op_case(draw, kind: str, floats: tuple[str, ...] = ("f32",), symbolic: bool = True) -> Case:
    """A graph of the one op `kind` (or of a form in FORMS), its float operands of one of `floats`."""
    spec = _table()[kind]
    d = Drawing(draw, ("f32",) if kind in FORMS else floats, symbolic)
    results = spec.build(d, d.source(spec) if spec.source else None)
    return d.finish(list(results) if isinstance(results, tuple) else [results])


@st.composite
def random_graph(draw, max_ops: int = 8, dtype: str = "f32", symbolic: bool = True, kinds=None) -> Case:
    """Up to about `max_ops` ops (of `kinds`) chained and joined at random; every value is finite for unit inputs."""
    table = {k: s for k, s in _table().items() if s.chain and s.source and (kinds is None or k in kinds)}
    d = Drawing(draw, (dtype,), symbolic)
    d.pool = [d.input([1, d.int(2, 4), d.dim(4, 8)]) if d.flag() else d.input([d.int(1, 2), d.dim(4, 8), d.int(2, 4)])]
    if d.flag():
        d.pool.append(d.input(d.pool[0].type.shape))
    for step in range(draw(st.integers(1, max_ops))):
        x = d.pool[-1] if d.int(0, 2) else d.pick(d.pool)
        fits = [k for k, spec in table.items() if d.fitting(spec, x)]
        if not fits:
            continue
        d.b.loc = Loc(f"net.{step}", "Case", f"case.py:{step + 1}")
        try:
            results = table[d.pick(fits)].build(d, x)
        except Unfit:
            continue
        for r in results if isinstance(results, tuple) else (results,):
            # Sums and products of sizes grow without end; keep graphs small.
            if math.prod(d.n(s) for s in r.type.sizes) <= 4000:
                d.pool.append(r)
    ends = [v for v in d.pool if v.kind == "result" and not v.users]
    return d.finish(ends[-3:] or [d.b.tanh(d.pool[0])])


def per_channel(d: Drawing, shape: tuple[int, ...], axis: int) -> Value:
    """An int8 weight with one scale an element of `axis`."""
    codes = d.rng.integers(-127, 128, shape).astype(np.int8)
    fan = math.sqrt(math.prod(shape) // shape[axis])
    scales = d.module.weights.add("s", (d.rng.uniform(0.5, 1.5, shape[axis]) / 127 / fan).astype(np.float32))
    return d.b.weight("q", codes, "i8", Quant(scales.name, 0, axis))

"""A model of features becomes one of audio: a front end in front of its features, its lengths those of the signal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from ..ir.errors import UsageError
from ..ir.expr import Expr, Size, substitute, symbol, symbols
from ..ir.graph import Builder, Graph, Loc, Value
from ..ir.types import Dim, Tensor, Time
from .base import Composed, Context, Pass
from .front_end.spec import PATH, Spec, parse
from .stream.walk import replaced

AUDIO, SAMPLES = "audio", "samples"


class AddFrontEnd(Pass):
    """Replace an input of features by one of audio, f32[N, samples], and compute the features of it.

    `spec` says which: `"kaldi-fbank{bins=80}+cumulative"` (`speechc front-ends` lists them). The features go in where
    they went: the input with as many features a frame (`input` names it, where several fit), as [N, frames, bins] or
    [N, bins, frames], as its type and its dimension of time say. A length that varied follows from the number of
    samples; one that is fixed takes the fewest samples that give it.

    Sample rate, limits of the length, and what the features are go into the facts of the model. Raises `UsageError`
    SC070 to SC074 for a specification that makes no sense or fits no input.
    """

    name, stage, equal = "front-end", "import", Composed()
    spec: str = ""
    input: str = ""

    def run(self, graph: Graph, context: Context) -> None:
        spec = parse(self.spec)
        port = feature_port(graph, spec, self.input)
        if not context.allow():
            return
        made = _Fronted(graph, spec, port)
        replaced(graph, made.graph)
        meta = context.meta
        limits = dict(meta.get("limits", {}))
        if made.symbol is not None:
            limits[SAMPLES] = _within(spec, limits.pop(made.symbol, [1, None]))
        meta |= {"limits": limits, "sample_rate": spec.sample_rate}
        meta.pop("tick_hz", None)
        context.remark("applied", self.name, f"{spec} takes the place of input {port.value.name}", made.loc)


class Port:
    """An input that takes features: which dimensions of it are frames and features of a frame."""

    def __init__(self, value: Value, frames: int, bins: int):
        self.value, self.frames, self.bins = value, frames, bins

    @property
    def batch(self) -> Dim:
        """The dimension of utterances."""
        first = self.value.type.shape[0]
        return Dim(1) if 0 in (self.frames, self.bins) else Dim(first.size)

    def shaped(self, g: Builder, x: Value) -> Value:
        """Features [N, frames, bins] as the input has them."""
        t = self.value.type
        if self.bins < self.frames:
            x = g.transpose(x, perm=(0, 2, 1))
        n, *inner = x.type.sizes
        sizes = {min(self.frames, self.bins): inner[0], max(self.frames, self.bins): inner[1]}
        shape = [sizes.get(i, n if i == 0 else 1) for i in range(t.rank)]
        if tuple(shape) != x.type.sizes:
            x = g.reshape(x, shape=shape)
        return x if t.dtype == "f32" else g.cast(x, dtype=t.dtype)


def feature_port(graph: Graph, spec: Spec, name: str = "") -> Port:
    """The input of `graph` that takes the features of `spec`. Raises `UsageError` SC073 where none does, or several."""
    if name and name not in [v.name for v in graph.inputs]:
        raise UsageError("SC073", f"there is no input {name}", hints=[_inputs(graph)])
    asked = [v for v in graph.inputs if v.name == name or not name]
    ports = {v.name: port for v in asked if (port := _port(v, spec.width)) is not None}
    if len(ports) > 1:  # masks and the like aside, features are what follows time
        timed = {n: p for n, p in ports.items() if p.value.type.shape[p.frames].time is not None}
        ports = timed if len(timed) == 1 else ports
    if len(ports) == 1:
        return next(iter(ports.values()))
    what = f"no input takes {spec.width} features a frame" if not ports else f"{' and '.join(ports)} may both take them"
    hint = "bins=… as many as the model takes features a frame" if not ports else "input='…' in the pass front-end{…}"
    raise UsageError("SC073", f"{spec}: {what}", [_inputs(graph)], [hint])


def _inputs(graph: Graph) -> str:
    return "inputs are " + ", ".join(f"{v.name} ({v.type})" for v in graph.inputs)


def _port(v: Value, width: int) -> Port | None:
    t = v.type
    if not t.is_float or t.quant is not None or t.rank < 2:
        return None
    times = [i for i, d in enumerate(t.shape) if d.time is not None]
    inner = [i for i in range(t.rank) if i or t.rank == 2 or 0 in times]
    bins = [i for i in inner if t.sizes[i] == width and i not in times]
    frames = times or [i for i in inner if t.sizes[i] != 1 and i not in bins]
    others = [i for i in inner if i not in (*bins, *frames)]
    if len(bins) != 1 or len(frames) != 1 or any(t.sizes[i] != 1 for i in others):
        return None
    return Port(v, frames[0], bins[0])


def _within(spec: Spec, limits: list[int | None]) -> list[int | None]:
    """The numbers of samples that give a number of frames within `limits`."""
    least, most = limits
    fewest = max(spec.least, spec.samples(max(least or 1, 1)))
    return [fewest, None if most is None else spec.samples(most + 1) - 1]


class _Fronted:
    """The graph again, behind a front end."""

    def __init__(self, old: Graph, spec: Spec, port: Port):
        self.old, self.spec, self.port = old, spec, port
        self.graph = Graph(old.name, old.weights)
        self.loc = Loc(PATH, str(spec), passes=(AddFrontEnd.name,))
        own = port.value.type.shape[port.frames]
        names = symbols(own.size)
        self.symbol = next(iter(names)) if own.size in map(symbol, names) else None
        self.clock = AUDIO if own.time else None
        samples = symbol(SAMPLES) if self.symbol else spec.samples(own.size)
        self.sizes: dict[str, Size] = {self.symbol: spec.frames(samples)} if self.symbol else {}
        self._build(samples)

    def _build(self, samples: Size) -> None:
        g = Builder(self.graph, self.loc)
        values: dict[int, Value] = {}
        time = Time(self.clock, Fraction(1), 0, samples) if self.clock else None
        taken = {v.name for v in self.old.inputs if v is not self.port.value}
        name = AUDIO if AUDIO not in taken else f"{self.port.value.name}.{AUDIO}"
        for v in self.old.inputs:
            if v is self.port.value:
                audio = self.graph.input(name, Tensor("f32", [self.port.batch, Dim(samples, time)]))
            else:
                values[id(v)] = self.graph.input(v.name, self._type(v.type))
        for v in self.old.states.values():
            values[id(v)] = self.graph.state(v.name, v.type, v.payload.initial)
        values[id(self.port.value)] = self.port.shaped(g, self.spec.build(g, audio))
        for op in self.graph.ops:
            op.loc = op.loc.through(AddFrontEnd.name)
        for op in self.old.ops:
            with g.at(op.loc):
                operands = [None if v is None else self._value(values, v) for v in op.operands]
                made = g.emit(op.kind, operands, {n: self._attr(a) for n, a in op.attrs.items()})
            values |= zip(map(id, op.results), made if isinstance(made, tuple) else (made,))
        for v, output in zip(self.old.outputs, self.old.output_names):
            self.graph.output(self._value(values, v), output)

    def _value(self, values: Mapping[int, Value], v: Value) -> Value:
        if v.kind == "const":
            return v
        return self.graph.weight_value(v.payload) if v.kind == "weight" else values[id(v)]

    def _attr(self, value):
        if isinstance(value, Expr):
            return substitute(value, self.sizes)
        if isinstance(value, tuple):
            return tuple(map(self._attr, value))
        return self._dim(value) if isinstance(value, Dim) else value

    def _dim(self, d: Dim) -> Dim:
        """A dimension as long as it was, in samples; it follows the audio where it followed the features."""
        size = substitute(d.size, self.sizes)
        if d.time is None or self.symbol is None or self.symbol not in symbols(d.size):
            return Dim(size, d.time)
        time = replace(
            d.time, clock=AUDIO, rate=d.time.rate / self.spec.shift, length=substitute(d.time.length, self.sizes)
        )
        return Dim(size, time)

    def _type(self, t: Tensor) -> Tensor:
        return t.with_(shape=[self._dim(d) for d in t.shape])

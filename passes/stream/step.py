"""The step graph while it is built: histories, delays, masks and joins, in terms of the facts of streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...ir.errors import IRError, UnsupportedError
from ...ir.expr import Size, evaluate, same, substitute
from ...ir.graph import Builder, Graph, Op, Value
from ...ir.registry import dequantized, quantized
from ...ir.types import DTYPES, Dim, Tensor, Time
from .clock import Clock
from .facts import Const, Coord, Fact, Pads, Score, Sizes, Stream, refuse, same_stream

# What moves numbers, whatever they are.
MOVES = frozenset(("reshape", "transpose", "slice", "expand", "retime"))


@dataclass
class Options:
    """What the pass was asked for: `cache` is what attention keeps of the past ("speed" or "memory").

    `most`: frames of input that there can be (0: any number).
    """

    cache: str = "speed"
    most: int = 0


class Step:
    """One step of the stream. Rules read facts of operands from it and build with `b`, at the place of their op."""

    def __init__(self, offline: Graph, sizes: Sizes, streams: int, options: Options):
        self.offline, self.sizes, self.streams, self.options = offline, sizes, streams, options
        self.graph = Graph("step", offline.weights)
        self.b = Builder(self.graph)
        self.clock = Clock(self.graph, sizes, streams)
        self.facts: dict[int, Fact] = {}
        self.op: Op | None = None
        self.notes: list[tuple[str, Op]] = []  # what the user should know
        self.watched: set[int] = set()  # values of the offline graph that attention is computed from
        self.finite: dict[int, bool] = {}
        self._masked: dict[tuple, Value] = {}
        self._delayed: dict[tuple, Value] = {}

    # -- facts -----------------------------------------------------------------------------------------------------
    def fact(self, v: Value) -> Fact:
        """What is known of a value of the offline graph."""
        if v.kind in ("weight", "const"):
            return Const(self.graph.weight_value(v.payload) if v.kind == "weight" else v)
        return self.facts[id(v)]

    def length(self, old: Value, axis: int) -> Size:
        """How long a dimension of the offline graph is."""
        return substitute(old.type.shape[axis].size, self.sizes.constants)

    def stream(self, old: Value, new: Value, pads: Pads | None = None) -> Stream:
        """The fact of `old`, whose frames `new` holds; both must agree on the length."""
        made = Stream(new, pads, self.batch_of(old))
        whole = self.length(old, made.axis)
        promised = made.time.length + pads.front + pads.behind if pads else made.time.length
        if not same(promised, whole):
            raise IRError(
                f"{new.op and new.op.kind} streams {promised} frames, the model has {whole}", [str(self.op.loc)]
            )
        return self.known(made)

    def known(self, x: Stream) -> Stream:
        """x, late enough to tell which of its frames are real.

        After k steps the input may end at once, with N(kB) = kb + N(0) frames in this stream: what comes earlier than
        the last of them (frames that a crop at the end takes) cannot be told from garbage.
        """
        short = -evaluate(x.time.length, {self.sizes.symbol: 0})
        return self.delayed(x, max(x.time.delay, short))

    def settled(self, old: Value, new: Value, axis: int, time: Time, pads: Pads | None = None) -> Stream:
        """The fact of `old`: `new`, whose only time dimension is `axis`."""
        for i, d in enumerate(new.type.shape):
            if d.time is not None and i != axis:
                new = self.b.retime(new, axis=i, to=Dim(d.size))
        return self.stream(old, self.retimed(new, axis, time), pads)

    def batch_of(self, old: Value) -> tuple[int, int] | None:
        """The dimension of the streams of a batch and the rows of each; known by the symbol of the batch."""
        if self.streams == 1:
            return None
        for axis, d in enumerate(old.type.shape):
            if not isinstance(d.size, int):
                rows = substitute(d.size, {**self.sizes.constants, "batch": self.streams})
                single = substitute(d.size, {**self.sizes.constants, "batch": 1})
                if rows != single:
                    return axis, single
        return None

    # -- frames ----------------------------------------------------------------------------------------------------
    def frames(self, time: Time) -> int:
        """Frames that a step adds to a stream."""
        return int(time.rate * self.sizes.chunk)

    def retimed(self, v: Value, axis: int, time: Time) -> Value:
        """`v`, with `axis` known to hold these frames."""
        to = Dim(v.type.sizes[axis], time)
        return v if str(v.type.shape[axis]) == str(to) else self.b.retime(v, axis=axis, to=to)

    def piece(self, v: Value, axis: int, start: int, stop: int) -> Value:
        """Elements `start` to `stop` along `axis`."""
        if (start, stop) == (0, v.type.sizes[axis]):
            return v
        if (again := self._behind(v)) is not None:
            return self._apply(again[0], self.piece(again[1], axis, start, stop))
        return self.b.slice(v, axis=axis, start=start, stop=stop)

    def shaped(self, mask: Value, rank: int, axis: int, batch: tuple[int, int] | None) -> Value:
        """[streams, frames] (or [frames]) laid out to broadcast against a value of `rank` dimensions."""
        count = mask.type.sizes[-1]
        shape = [1] * rank
        shape[axis] = count
        if mask.type.rank == 1:
            return self.b.reshape(mask, shape=tuple(shape))
        if batch is None:
            raise refuse("SC214", "the batch cannot be followed to this op: its streams cannot end alone", self.op,
                         "compile for one stream, without --batch")  # fmt: skip
        at, rows = batch
        if rows > 1:
            mask = self.b.expand(
                self.b.reshape(mask, shape=(self.streams, 1, count)), shape=(self.streams, rows, count)
            )
        shape[at] = self.streams * rows
        if at < axis:
            return self.b.reshape(mask, shape=tuple(shape))
        mask = self.b.transpose(self.b.reshape(mask, shape=(self.streams * rows, count)), perm=(1, 0))
        return self.b.reshape(mask, shape=tuple(shape))

    def masked(self, x: Stream, fill: float, front: bool = True, behind: bool = True) -> Stream:
        """x, whose frames outside the stream are `fill`."""
        real = self.clock.real(x.dim, front, behind)
        if real is None:
            return x
        key = (id(x.value), fill, id(real))
        if key not in self._masked:
            self._masked[key] = self._mask(x.value, real, x, fill)
        return replace(x, value=self._masked[key])

    def _mask(self, v: Value, real: Value, x: Stream, fill: float) -> Value:
        again = self._behind(v, fill)
        if again is not None:  # stored as integers: mask what is stored, and read it again
            op, inner = again
            return self._apply(op, self._mask(inner, real, x, fill))
        shown = self.shaped(real, v.type.rank, x.axis, x.batch)
        if v.type.quant is not None:
            return self._mask_codes(v, shown, fill)
        return self.b.where(shown, v, self.b.const(fill, v.type.dtype))

    def _mask_codes(self, v: Value, shown: Value, fill: float) -> Value:
        """Integers with a scale are masked as the numbers they stand for, which are on the grid already."""
        q = v.type.quant
        real = self.b.where(shown, self.b.dequantize(v), self.b.const(fill, "f32"))
        return self.b.quantize(real, scale=q.scale, zero_point=q.zero_point, dtype=v.type.dtype)

    def _behind(self, v: Value, fill: float | None = None) -> tuple[Op, Value] | None:
        """The op and the narrower value behind a value that is only unpacked: what histories and masks work on.

        What moves numbers after they are unpacked moves them before. None where the narrower value cannot hold `fill`.
        """
        op, moves = v.op, []
        while op is not None and op.kind in MOVES:
            moves.append(op)
            op = op.operands[0].op
        if op is None or op.kind not in ("dequantize", "cast") or op.operands[0].kind not in ("result", "input"):
            return None
        inner = op.operands[0]
        if np.dtype(DTYPES[inner.type.dtype]).itemsize > np.dtype(DTYPES[v.type.dtype]).itemsize:
            return None
        if inner.type.quant is not None and inner.type.quant.axis is not None:
            return None
        if fill is not None and not _holds(inner.type, op.result.type, fill):
            return None
        for move in reversed(moves):
            inner = self._apply(move, inner)
        return op, inner

    def least(self, v: Value) -> float:
        """A number that is not above any that `v` holds: that of its least code, if it is unpacked from codes."""
        again = self._behind(v)
        stored = v.type if again is None else again[1].type
        return float("-inf") if stored.quant is None else rounded(float("-inf"), stored)

    def _apply(self, op: Op, *operands: Value) -> Value:
        return self.b.emit(op.kind, operands, op.attrs)

    # -- the past --------------------------------------------------------------------------------------------------
    def history(self, x: Stream, frames: int, role: str, fill: float = 0.0, lead: int = 0, trail: Size = 0) -> Value:
        """The chunk with `frames` frames in front of it, numbered as a stream padded by `lead` and `trail` is.

        Before the start of the stream the frames are `fill`.
        """
        v, axis = x.value, x.axis
        if frames == 0:
            time = replace(x.time, delay=x.time.delay - lead, length=x.time.length + lead + trail)
            return self.retimed(v, axis, time)
        again = self._behind(v, fill)
        if again is not None:
            op, inner = again
            return self._apply(op, self.history(replace(x, value=inner), frames, role, fill, lead, trail))
        shape = [frames if i == axis else s for i, s in enumerate(v.type.sizes)]
        state = self.graph.state(self.name(role), Tensor(v.type.dtype, shape, v.type.quant), _stored(fill, v.type))
        known = trail if isinstance(trail, int) else 0
        seen = self.b.history(v, state, axis=axis, lead=lead, trail=known)
        if known is trail:
            return seen
        time = seen.type.shape[axis].time
        return self.retimed(seen, axis, replace(time, length=time.length + trail))

    def name(self, role: str) -> str:
        """A fresh name for a state of the op that is being rewritten."""
        base = f"{self.op.loc.path or self.op.kind}.{role}" if self.op else role
        name, number = base, 1
        while name in self.graph.states:
            number += 1
            name = f"{base}.{number}"
        return name

    def delayed(self, x: Stream, delay: int) -> Stream:
        """x, later: its chunks hold frames that are `delay` behind."""
        late = delay - x.time.delay
        if late == 0:
            return x
        key = (id(x.value), delay)
        if key not in self._delayed:
            held = self.history(x, late, "delay")
            self._delayed[key] = self.piece(held, x.axis, 0, self.frames(x.time))
        return replace(x, value=self._delayed[key])

    def plain(self, x: Stream) -> Stream:
        """x with its pads in place, for a reader that cannot add them itself."""
        if x.pads is None:
            return x
        from .window import padded

        return padded(self, x)

    def join(self, facts: Sequence[Fact], what: Sequence[Value]) -> list[Value]:
        """Values of several facts, in step: streams at the delay of the latest, positions made for them."""
        streams = [self.plain(f) for f in facts if isinstance(f, Stream)]
        delay = max(s.time.delay for s in streams)
        first = streams[0].time
        for s in streams:
            if not same_stream(s.time, first):
                raise refuse("SC207", f"joins streams of {first.length} and {s.time.length} frames", self.op)
        at = replace(first, delay=delay)
        return [self.aligned(f, v, at) for f, v in zip(facts, what)]

    def aligned(self, fact: Fact, old: Value, at: Time) -> Value:
        """A fact as a value in step with a stream of time `at`."""
        from .positions import generated

        match fact:
            case Const(value):
                return value
            case Stream():
                return self.delayed(self.plain(fact), at.delay).value
            case Coord():
                return generated(self, old, at, self.op.results[0])
            case Score():
                raise refuse("SC204", "it reads scores of queries and keys that attention does not close", self.op)
        raise IRError(f"{fact} is no fact")


def _holds(inner: Tensor, outer: Tensor, fill: float) -> bool:
    """Whether `fill` comes out of a number that `inner` stores."""
    if not np.isfinite(fill):
        return inner.is_float
    return np.array(rounded(fill, inner), DTYPES[outer.dtype]) == np.array(fill, DTYPES[outer.dtype])


def rounded(fill: float, type: Tensor) -> float | None:
    """What comes out of `fill` stored as `type`; None where that is no number."""
    if type.quant is None and not type.is_float:
        return int(fill) if np.isfinite(fill) else None
    if type.quant is not None and type.quant.axis is not None:
        return None
    stored = np.array(_stored(fill, type), DTYPES[type.dtype])
    return (stored if type.quant is None else dequantized(stored, type, dict)).item()


def _stored(fill: float, type: Tensor) -> float | int:
    """A number as a state of `type` stores it."""
    if type.quant is None:
        return fill if type.is_float else int(fill)
    codes = quantized(np.array(fill, np.float32), type.dtype, type.quant.scale, type.quant.zero_point)
    return int(codes)


def static_pads(pads: tuple[Size, Size], op: Op) -> tuple[int, Size]:
    """Pads whose front is a number."""
    if not isinstance(pads[0], int) or pads[0] < 0:
        raise refuse("SC206", f"pads {pads[0]} frames in front", op)
    return pads


def grown(error: UnsupportedError, op: Op) -> UnsupportedError:
    """`error` with the place of `op`, where it has none."""
    if not error.where:
        error.where.append(str(op.loc))
    return error

"""What keys and values are computed from, frame by frame: kept instead of them where it is less, and computed anew."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...ir.expr import Expr, Size, same, substitute, symbols
from ...ir.graph import Op, Value
from ...ir.registry import definition
from ...ir.types import DTYPES, Dim, normal_axis
from .facts import Const, Coord, Score, Stream
from .positions import generated
from .step import Step

FRAMEWISE = {"linear", "matmul", "layer_norm", "rms_norm", "batch_norm", "softmax", "log_softmax", "conv", "concat",
             "reshape", "transpose", "slice", "expand", "quantize", "dequantize"}  # fmt: skip
MOST_OPS = 64  # between a stream and the keys and values made of it


@dataclass(frozen=True)
class Source:
    """A stream and the ops, in order, that make keys and values of it frame by frame."""

    stream: Stream
    of: Value  # of the offline graph
    ops: tuple[Op, ...]


def frame_bytes(step: Step, x: Stream) -> int:
    """Bytes of one frame as a history stores it."""
    behind = step._behind(x.value, 0.0)
    stored = behind[1] if behind else x.value
    return math.prod(s for i, s in enumerate(x.value.type.sizes) if i != x.axis) * DTYPES[stored.type.dtype].itemsize


def source(step: Step, op: Op) -> Source | None:
    """The smallest stream that the keys and values of an attention are both made of; None where none is smaller."""
    made = [v for v in op.operands[1:3] if isinstance(step.fact(v), Stream)]
    least = sum(frame_bytes(step, step.fact(v)) for v in {id(v): v for v in made}.values())
    place = {r: i for i, o in enumerate(step.offline.ops) for r in map(id, o.results)}
    front, ops, best = {id(v): v for v in made}, [], None
    while len(ops) < MOST_OPS:
        if len(front) == 1:
            (v,) = front.values()
            x = step.fact(v)
            if x.pads is None and frame_bytes(step, x) < least:
                best, least = Source(x, v, tuple(reversed(ops))), frame_bytes(step, x)
        last = max(front.values(), key=lambda v: place.get(id(v), -1))
        if last.op is None or not _framewise(step, last.op):
            break
        del front[id(last)]
        ops.append(last.op)
        front |= {id(o): o for o in last.op.operands if o is not None and isinstance(step.fact(o), Stream)}
    if best is None or any(step.fact(v).time.delay != best.stream.time.delay for v in made):
        return None
    return best


def _framewise(step: Step, op: Op) -> bool:
    """Whether every frame of the op's result is made of the same frame of its operands, at the same delay."""
    facts = [step.fact(v) for v in op.operands if v is not None]
    streams = [f for f in facts if isinstance(f, Stream)]
    result = step.facts.get(id(op.results[0]))
    if len(op.results) != 1 or not streams or not isinstance(result, Stream):
        return False
    alike = all(s.time == streams[0].time and s.pads is None for s in (*streams, result))
    if not alike or any(isinstance(f, Score) for f in facts) or not _in_step(step, op, streams[0].time.length):
        return False
    if op.kind not in FRAMEWISE:
        return definition(op.kind).family == "pointwise"
    return ALONE.get(op.kind, lambda step, op, axis: True)(step, op, streams[0].axis)


def _in_step(step: Step, op: Op, length: Size) -> bool:
    """Whether every size among the op's attributes that grows is the length of its stream."""

    def fits(value) -> bool:
        if isinstance(value, tuple):
            return all(map(fits, value))
        if not isinstance(value, Expr) or step.sizes.symbol not in symbols(value):
            return True
        return same(substitute(value, step.sizes.constants), length)

    return all(map(fits, op.attrs.values()))


def _one_tap(step: Step, op: Op, axis: int) -> bool:
    """A convolution of one tap along time."""
    at = axis - (1 if op.attrs["channel_last"] else 2)
    here = lambda values: values[at] if at >= 0 else None
    return (
        here(op.operands[1].type.sizes[2:]) == 1 and here(op.attrs["stride"]) == 1 and here(op.attrs["pad"]) == (0, 0)
    )


# Ops that treat frames alone only along other dimensions than time.
ALONE = {
    "conv": _one_tap,
    "concat": lambda step, op, axis: op.attrs["axis"] != axis,
    "slice": lambda step, op, axis: op.attrs["axis"] != axis,
    "softmax": lambda step, op, axis: normal_axis(op.attrs["axis"], op.result.type.rank) != axis,
    "log_softmax": lambda step, op, axis: normal_axis(op.attrs["axis"], op.result.type.rank) != axis,
    "matmul": lambda step, op, axis: isinstance(step.fact(op.operands[1]), Const),
}


def replayed(step: Step, source: Source, seen: Value, wanted: list[Value]) -> list[Value]:
    """What the ops of `source` make of frames `seen`, for each offline value in `wanted`; positions included."""
    axis = source.stream.axis
    dim = seen.type.shape[axis]
    made = {id(source.of): step.b.retime(seen, axis=axis, to=Dim(dim.size))}
    place = step.b.loc
    for op in source.ops:
        step.b.loc = op.loc.through("streaming")
        operands = [None if v is None else _operand(step, op, v, made, dim) for v in op.operands]
        attrs = {name: _sized(step, value, dim) for name, value in op.attrs.items()}
        made[id(op.result)] = step.b.emit(op.kind, operands, attrs)
    step.b.loc = place
    return [step.retimed(made[id(v)], step.fact(v).axis, dim.time) for v in wanted]


def _operand(step: Step, op: Op, v: Value, made: dict[int, Value], dim: Dim) -> Value:
    fact = step.fact(v)
    if isinstance(fact, Const):
        return fact.value
    if isinstance(fact, Coord):
        new = generated(step, v, dim.time, op.result, dim.size)
        for axis, d in enumerate(new.type.shape):
            if d.time is not None:
                new = step.b.retime(new, axis=axis, to=Dim(d.size))
        return new
    return made[id(v)]


def _sized(step: Step, value, dim: Dim):
    """An attribute with the length of the stream replaced by that of the window."""
    if isinstance(value, tuple):
        return tuple(_sized(step, v, dim) for v in value)
    if isinstance(value, Expr) and step.sizes.symbol in symbols(value):
        return dim.size
    return step.sizes.attr(value)

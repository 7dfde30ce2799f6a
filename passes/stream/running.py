"""Ops that carry something from frame to frame: recurrent layers, running sums and maxima.

The carry moves at real frames only. A stream that is d frames late begins with d frames of garbage; its first real
frame stands at place d mod b of a chunk, the same place for ever. So the frames before that place run on their own, and
until the stream has begun the layer starts afresh at that place.
"""

from __future__ import annotations

import numpy as np

from ...ir.graph import Op, Value
from ...ir.types import Dim
from .constants import known_array
from .facts import Const, Stream, refuse
from .framewise import MEASURED, framewise
from .rules import rule
from .step import Step

CARRIES = {"lstm": 2, "gru": 1, "rnn": 1}


@rule(*CARRIES)
def _(step: Step, op: Op) -> tuple:
    facts = [None if v is None else step.fact(v) for v in op.operands]
    x, count = facts[0], CARRIES[op.kind]
    starts, others = facts[1 : 1 + count], facts[1 + count :]
    if not all(f is None or isinstance(f, Const) for f in others):
        raise refuse("SC206", "its weights depend on time", op)
    if isinstance(x, Stream) and x.axis == 0:  # frames are its batch
        return _by_frame(step, op, x, starts, others)
    if not all(isinstance(f, Const) for f in starts):
        raise refuse("SC206", "its first carry depends on time", op)
    if op.attrs["reverse"]:
        chunk = f"chunk={step.sizes.chunk} frames,right={step.sizes.chunk} frames"
        raise refuse("SC205", "it runs from the end of the utterance", op,
                     f'--bidirectional "latency-controlled:{chunk}"' + MEASURED, "--bidirectional forward")  # fmt: skip
    if any(r.users or any(o is r for o in step.offline.outputs) for r in op.results[1:]):
        raise refuse("SC210", "the carry behind the last frame is used", op, "leave the final state out of the outputs")
    x = step.plain(x)
    weights = [None if f is None else f.value for f in others]
    carries = [_state(step, f.value, f"carry.{name}") for f, name in zip(starts, "hc")]

    def run(piece: Value, carry: list[Value]) -> tuple[Value, ...]:
        return step.b.emit(op.kind, (piece, *carry, *weights), op.attrs)

    frames, place, now = step.frames(x.time), x.time.delay % step.frames(x.time), [c.now for c in carries]
    outputs = []
    if place:
        first, *now = run(step.piece(x.value, x.axis, 0, place), now)
        outputs.append(first)
    if x.time.delay:
        begun = _begun(step, x)
        now = [step.b.where(begun, value, f.value) for value, f in zip(now, starts)]
    last, *now = run(step.piece(x.value, x.axis, place, frames), now)
    outputs.append(last)
    for carry, value in zip(carries, now):
        step.b.write(carry.state, value)
    y = outputs[0] if len(outputs) == 1 else step.b.concat(*outputs, axis=x.axis)
    return (step.stream(op.results[0], y), *[None] * count)


def _by_frame(step: Step, op: Op, x: Stream, starts, others) -> tuple:
    """A layer that runs inside each frame: the frames are the rows of its batch."""
    y, *carries = step.join([x, *starts], op.operands[: 1 + len(starts)])
    rows, time = y.type.shape[0].size, y.type.shape[0].time
    carries = [step.b.expand(v, shape=(rows, *v.type.sizes[1:])) if v.type.sizes[0] == 1 else v for v in carries]
    values = [None if f is None else f.value for f in others]
    made = step.b.emit(op.kind, (y, *carries, *values), op.attrs)
    facts = [step.stream(op.results[0], made[0])]
    for r, v in zip(op.results[1:], made[1:]):
        facts.append(step.stream(r, step.retimed(v, 0, time)))
    return tuple(facts)


class _Carry:
    def __init__(self, state: Value, now: Value):
        self.state, self.now = state, now


def _state(step: Step, start: Value, role: str) -> _Carry:
    """A state that begins as `start`."""
    array = known_array(start)
    if array is None:
        raise refuse("SC206", "its first carry is an input", step.op)
    if np.all(array == array.flat[0]):
        initial = array.flat[0].item()
    else:
        initial = step.graph.weight(f"{step.name(role)}.initial", np.ascontiguousarray(array)).payload
    state = step.graph.state(step.name(role), start.type.with_(shape=start.type.sizes), initial)
    return _Carry(state, step.b.read(state))


def _begun(step: Step, x: Stream) -> Value:
    """Whether what was handed on to the place of the first frame comes from the stream, bool[rows, 1]."""
    first = x.time.delay // step.frames(x.time)  # the step in which the stream begins
    begun = step.clock.b.less(step.clock.int(first), step.clock.steps(first + 2))
    return step.shaped(step.clock.column(begun), 2, 1, x.batch)


@rule("cumsum")
def _(step: Step, op: Op) -> Stream:
    return _running(step, op, 0.0, step.b.add)


@rule("cummax")
def _(step: Step, op: Op) -> Stream:
    return _running(step, op, float("-inf"), step.b.maximum)


def _running(step: Step, op: Op, neutral: float, combine) -> Stream:
    """What ran over this chunk, combined with what ran over all before it."""
    x = step.plain(step.fact(op.operands[0]))
    axis, t = x.axis, x.value.type
    if op.attrs["axis"] % t.rank != axis:
        return framewise(step, op)
    if not t.is_float and neutral:
        neutral = int(np.iinfo(np.int32).min)
    x = step.masked(x, neutral, front=True, behind=False)
    shape = [Dim(1) if i == axis else Dim(s) for i, s in enumerate(t.sizes)]
    state = step.graph.state(step.name("carry"), t.with_(shape=shape), neutral if t.is_float else int(neutral))
    own = step.b.emit(op.kind, (x.value,), op.attrs)
    y = combine(own, step.b.read(state))
    last = step.b.slice(y, axis=axis, start=x.dim.size - 1, stop=x.dim.size)
    step.b.write(state, step.b.retime(last, axis=axis, to=Dim(1)))
    return step.stream(op.result, y)

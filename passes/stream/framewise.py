"""Ops that treat every frame alone: no delay, no state; operands only have to be in step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir import ops  # noqa: F401  registers the core ops
from ...ir.graph import Op, Value
from ...ir.plugins import is_plugged
from ...ir.registry import OPS, definition
from ...ir.types import DTYPES, normal_axis
from ..front_end.spec import ways_out
from .facts import Const, Coord, Fact, Stream, refuse
from .rules import rule
from .step import Step, rounded

POINTWISE = [name for name, kept in OPS.items() if kept.family == "pointwise" and not is_plugged(kept.meaning)]
STORED = frozenset(("cast", "quantize", "dequantize"))  # the same number, stored in another way
MEASURED = "  (changes the output; its loss is measured and printed)"
BEHIND = "no rewrite makes it stream: return the frames, and do it behind the file"
ATTENTION = "--attention chunk:640ms,left=2560ms" + MEASURED
NORMALISE = "--normalise cumulative, or fixed with --calibrate DIR" + MEASURED


def framewise(step: Step, op: Op) -> Stream:
    """The op on one chunk, its streams in step and sizes made those of a step."""
    if (padded := _padded_alone(step, op)) is not None:
        return padded
    facts = [step.fact(v) if v is not None else None for v in op.operands]
    present = [i for i, f in enumerate(facts) if f is not None]
    values = step.join([facts[i] for i in present], [op.operands[i] for i in present])
    operands: list[Value | None] = [None] * len(facts)
    for i, v in zip(present, values):
        operands[i] = v
    made = step.b.emit(op.kind, operands, step.sizes.attr_map(op))
    return step.stream(op.result, made)


def _padded_alone(step: Step, op: Op) -> Stream | None:
    """An op on single elements of a stream that is still to be padded: what it makes of the padding is the padding."""
    known = op.kind in STORED or definition(op.kind).family == "pointwise"
    if len(op.operands) != 1 or not known or set(op.attrs) & {"out", "dynamic"}:
        return None
    x = step.fact(op.operands[0])
    if x.pads is None:
        return None
    made = step.b.emit(op.kind, (x.value,), op.attrs)
    if op.kind in STORED:
        fill = rounded(x.pads.fill, made.type)
        if fill is None:
            return None
        return step.stream(op.result, made, replace(x.pads, fill=fill))
    fill = definition(op.kind).run(op, [np.array(x.pads.fill, DTYPES[x.value.type.dtype])], {}, dict)[0]
    return step.stream(op.result, made, replace(x.pads, fill=fill.item()))


def time_of(step: Step, v: Value) -> int | None:
    """Which dimension of a value is time, if it is a stream."""
    f = step.fact(v)
    return f.axis if isinstance(f, Stream) else None


for _kind in (*POINTWISE, "quantize", "dequantize", "retime"):
    rule(_kind)(framewise)


@rule("linear", "rms_norm")
def _(step: Step, op: Op) -> Stream:
    x = op.operands[0]
    if time_of(step, x) == x.type.rank - 1:
        raise refuse("SC203", "it mixes the frames of the whole utterance", op, NORMALISE)
    return framewise(step, op)


@rule("layer_norm")
def _(step: Step, op: Op) -> Stream:
    x = op.operands[0]
    if time_of(step, x) >= normal_axis(op.attrs["axis"], x.type.rank):
        raise refuse("SC203", "it normalises over the whole utterance", op, NORMALISE)
    return framewise(step, op)


@rule("group_norm")
def _(step: Step, op: Op) -> Stream:
    if time_of(step, op.operands[0]) != 0:
        raise refuse("SC203", "it normalises over the whole utterance", op, NORMALISE)
    return framewise(step, op)


@rule("batch_norm")
def _(step: Step, op: Op) -> Stream:
    x = op.operands[0]
    if time_of(step, x) == normal_axis(op.attrs["axis"], x.type.rank):
        raise refuse("SC203", "it has a statistic for every frame", op)
    return framewise(step, op)


@rule("softmax", "log_softmax")
def _(step: Step, op: Op) -> Stream:
    x = op.operands[0]
    if time_of(step, x) == normal_axis(op.attrs["axis"], x.type.rank):
        raise refuse("SC204", "it weighs the frames of the whole utterance", op, BEHIND)
    return framewise(step, op)


@rule("sum", "mean", "max", "min")
def _(step: Step, op: Op) -> Stream:
    if time_of(step, op.operands[0]) in op.attrs["axes"]:
        raise refuse("SC203", "it reduces over the whole utterance", op, *ways_out(op), NORMALISE)
    return framewise(step, op)


@rule("argmax")
def _(step: Step, op: Op) -> Stream:
    x = op.operands[0]
    if time_of(step, x) == normal_axis(op.attrs["axis"], x.type.rank):
        raise refuse("SC203", "it looks for the largest of the whole utterance", op, BEHIND)
    return framewise(step, op)


@rule("matmul")
def _(step: Step, op: Op) -> Stream:
    a, b = op.operands
    if time_of(step, a) == a.type.rank - 1 or time_of(step, b) == b.type.rank - 2:
        raise refuse("SC204", "it sums over the frames of the whole utterance", op, BEHIND)
    return framewise(step, op)


@rule("gather")
def _(step: Step, op: Op) -> Stream:
    x, index = map(step.fact, op.operands)
    if isinstance(x, Stream) and (x.axis == op.attrs["axis"] or not isinstance(index, Const)):
        raise refuse("SC206", "it picks frames that the utterance decides on", op, BEHIND)
    if isinstance(x, Coord):
        raise refuse("SC202", "it looks up a table that depends on the length", op)
    return framewise(step, op)


@rule("gather_elements")
def _(step: Step, op: Op) -> Stream:
    if op.attrs["axis"] in {time_of(step, v) for v in op.operands}:
        raise refuse("SC206", "it picks frames that the utterance decides on", op, BEHIND)
    return framewise(step, op)


def reads_stream(step: Step, op: Op) -> list[Fact]:
    """The facts of the op's operands that are streams."""
    return [f for v in op.operands if v is not None and isinstance(f := step.fact(v), Stream)]

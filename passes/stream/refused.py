"""Ops that no step can compute: what they need of the future, and what may be done about it."""

from __future__ import annotations

from ...ir.graph import Op
from .facts import refuse
from .framewise import BEHIND, framewise, time_of
from .rules import rule
from .step import Step


@rule("flip")
def _(step: Step, op: Op):
    if time_of(step, op.operands[0]) != op.attrs["axis"]:
        return framewise(step, op)
    raise refuse("SC205", "it turns the utterance round", op, BEHIND)


@rule("read", "write", "history")
def _(step: Step, op: Op):
    raise refuse("SC215", "the model keeps state of its own from call to call", op,
                 "leave --stream out: its calls are steps already")  # fmt: skip

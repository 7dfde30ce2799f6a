"""The table of streaming rules: one function an op, `rule(step, op)`, giving the fact of each result."""

from __future__ import annotations

from collections.abc import Callable

from ...ir import plugins
from ...ir.graph import Op
from .facts import Fact

RULES: dict[str, Callable[..., Fact | tuple[Fact, ...]]] = {}


def rule(*kinds: str):
    """Register the streaming rule of some kinds of op."""

    def register(function):
        if plugins.is_plugged(function):
            load()
        for kind in kinds:
            if kind in RULES:
                raise TypeError(f"{kind} has two streaming rules")
            RULES[kind] = function
        return function

    return register


def load() -> dict[str, Callable]:
    """The table, every family of rules imported."""
    from . import attention, framewise, refused, running, shape, transposed, window  # noqa: F401

    plugins.load()
    return RULES


def standing(kind: str, operands: bool = True) -> str:
    """What becomes of an op in a step: "yes"; "refused" with ways out; "-" where there is no rule.

    Without operands it depends on lengths alone, and is computed for whatever stream needs it.
    """
    function = load().get(kind)
    if function is None:
        return "-" if operands else "yes"
    return "refused" if function.__module__.endswith(".refused") else "yes"


def first_stream(step, op: Op):
    """The fact of the first operand, which the walk has made sure is a stream (or scores)."""
    return step.fact(op.operands[0])

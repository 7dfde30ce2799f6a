"""The table of lowerings: for each op, the function that writes it as TFLite operators, and what it cannot take."""

from __future__ import annotations

from collections.abc import Callable

from ...ir.plugins import is_plugged

LOWERINGS: dict[str, Callable] = {}
CHECKS: dict[str, list[Callable]] = {}
INTEGER: set[str] = set()  # ops whose kernels compute on int8; the others are wrapped in DEQUANTIZE and QUANTIZE
ACTIVATES: set[str] = set()  # ops whose lowering does `then` itself


def lower(*kinds: str, integer: bool | tuple[str, ...] = (), activates: bool | tuple[str, ...] = ()):
    """Register `function(e, op, *operands) -> T | tuple of T` for ops of `kinds`; operands are `T` or None.

    `integer`: which of them (True: all) take int8 operands and write int8 results themselves. `activates`: which of
    them do the activation of the attribute `then`.
    """

    def register(function: Callable) -> Callable:
        if is_plugged(function):
            from . import ops  # noqa: F401
        for kind in kinds:
            if kind in LOWERINGS:
                raise TypeError(f"{kind} has two lowerings to TFLite")
            LOWERINGS[kind] = function
        INTEGER.update(kinds if integer is True else integer)
        ACTIVATES.update(kinds if activates is True else activates)
        return function

    return register


def refuse(*kinds: str):
    """Register `function(op) -> reason | None`: why an op of `kinds` cannot be expressed, judged from its types."""

    def register(function: Callable) -> Callable:
        for kind in kinds:
            CHECKS.setdefault(kind, []).append(function)
        return function

    return register

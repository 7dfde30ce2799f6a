"""The table of lowerings: for each op, the function that writes it as TFLite operators, and what it cannot take."""

from __future__ import annotations

from collections.abc import Callable

LOWERINGS: dict[str, Callable] = {}
CHECKS: dict[str, list[Callable]] = {}
INTEGER: set[str] = set()  # ops whose kernels compute on int8; the others are wrapped in DEQUANTIZE and QUANTIZE


def lower(*kinds: str, integer: bool | tuple[str, ...] = ()):
    """Register `function(e, op, *operands) -> T | tuple of T` for ops of `kinds`; operands are `T` or None.

    `integer`: which of them (True: all) take int8 operands and write int8 results themselves.
    """

    def register(function: Callable) -> Callable:
        for kind in kinds:
            LOWERINGS[kind] = function
        INTEGER.update(kinds if integer is True else integer)
        return function

    return register


def refuse(*kinds: str):
    """Register `function(op) -> reason | None`: why an op of `kinds` cannot be expressed, judged from its types."""

    def register(function: Callable) -> Callable:
        for kind in kinds:
            CHECKS.setdefault(kind, []).append(function)
        return function

    return register

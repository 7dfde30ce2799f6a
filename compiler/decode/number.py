"""Numbers among the options of a search, as flags, JSON and Python give them."""

from __future__ import annotations

import math
from typing import Any

from ...ir.errors import UsageError

MOST = 1e9  # in either direction: sums of logarithms stay finite


def number(name: str, value: Any, kind: type[int] | type[float] = float) -> Any:
    """`value` as a number of `kind`. Raises `UsageError` SC090 for what is none: text, NaN, 2.5 where it is whole."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not abs(found) <= MOST or kind(found) != found:
        what = "whole number" if kind is int else "number"
        raise UsageError("SC090", f"{name} {value!r} is no {what} that it can have")
    return kind(found)

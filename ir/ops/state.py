"""State that lives from one call to the next: read at its start, written at its end."""

from __future__ import annotations

from ..errors import IRError
from ..registry import op


@op(carries=True)
def read(state):
    """The state as the last call left it (its initial value at first)."""
    return state


@read.rule
def _(state):
    return state


@op(carries=True, effect=True)
def write(state, value):
    """Make `value` what `read` gives in the next call."""
    return ()


@write.rule
def _(state, value):
    if state != value:
        raise IRError(f"a state of type {state} cannot become {value}")
    return ()

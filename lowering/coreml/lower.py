"""How each op becomes MIL operations: a table filled by the `ops_*` modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ir.graph import Op
from ...ir.plugins import is_plugged

FIRST = 15  # the release with the first ML programs


@dataclass(frozen=True)
class Lowering:
    """`build(e, *operands, **attributes)` gives the MIL value of each result; `since(op)` is the release it needs."""

    build: Callable
    since: Callable[[Op], int]


LOWER: dict[str, Lowering] = {}


def lower(*kinds: str, since: int | Callable[[Op], int] = FIRST):
    """Register the lowering of `kinds`: `build(e, *operands, **attributes)`, or with `kind` first for several."""

    def register(build: Callable) -> Callable:
        need = since if callable(since) else (lambda op: since)
        if is_plugged(build):
            load_all()
        for kind in kinds:
            one = (lambda e, *a, kind=kind, **k: build(e, kind, *a, **k)) if len(kinds) > 1 else build
            if kind in LOWER:
                raise TypeError(f"{kind} has two lowerings to Core ML")
            LOWER[kind] = Lowering(one, need)
        return build

    return register


def load_all() -> dict[str, Lowering]:
    """The table, complete."""
    from . import (  # noqa: F401
        ops_attention,
        ops_linear,
        ops_norm,
        ops_pointwise,
        ops_pool,
        ops_quant,
        ops_recurrent,
        ops_reduce,
        ops_shape,
        ops_signal,
        ops_state,
    )

    return LOWER

"""How each op becomes ONNX nodes: a table filled by the `ops_*` modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...ir.graph import Op
from ...ir.plugins import is_plugged

BASE_OPSET = 13  # axes as inputs, per-channel quantization, softmax over any one axis


@dataclass(frozen=True)
class Lowering:
    """`build(e, *operands, **attributes)` gives the ONNX value of each result; `opset(op)` is the least it needs."""

    build: Callable
    opset: Callable[[Op], int]


LOWER: dict[str, Lowering] = {}


def registering(table: dict[str, Lowering]) -> Callable:
    """A decorator that puts lowerings into `table`."""

    def lower(*kinds: str, opset: int | Callable[[Op], int] = BASE_OPSET):
        """Register the lowering of `kinds`: `build(e, *operands, **attributes)`, or with `kind` first for several."""

        def register(build: Callable) -> Callable:
            need = opset if callable(opset) else (lambda op: opset)
            if is_plugged(build):
                load_all()
            for kind in kinds:
                if kind in table:
                    raise TypeError(f"{kind} has two lowerings to ONNX")
                one = (lambda e, *a, kind=kind, **k: build(e, kind, *a, **k)) if len(kinds) > 1 else build
                table[kind] = Lowering(one, need)
            return build

        return register

    return lower


lower = registering(LOWER)


def load_all() -> dict[str, Lowering]:
    """The table, complete."""
    from . import (  # noqa: F401
        ops_attention,
        ops_linear,
        ops_norm,
        ops_pointwise,
        ops_quant,
        ops_recurrent,
        ops_reduce,
        ops_shape,
        ops_signal,
    )

    return LOWER

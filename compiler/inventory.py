"""How many ops a graph has, and how many bytes of weights they read, by module path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..ir.graph import Module, Value
from ..ir.types import DTYPES

Inventory = dict[str, tuple[int, int]]


def inventory(module: Module) -> Inventory:
    """(ops, bytes of weights) by module path, in order; a weight counts where it is read first."""
    found: Inventory = {}
    counted: set[str] = set()
    for graph in module.graphs.values():
        for op in graph.ops:
            ops, held = found.get(op.loc.path, (0, 0))
            for v in op.operands:
                if v is not None and v.kind == "weight" and v.name not in counted:
                    counted.add(v.name)
                    held += weight_bytes(v)
            found[op.loc.path] = (ops + 1, held)
    return found


def weight_bytes(v: Value) -> int:
    """Bytes of a weight as its type stores it; codes of 4 bits are two a byte."""
    count = int(np.prod([int(s) for s in v.type.sizes], dtype=np.int64))
    return (count + 1) // 2 if v.type.dtype == "i4" else count * np.dtype(DTYPES[v.type.dtype]).itemsize


def beside(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """Rows for JSON: every module of either graph, those of the captured one first."""
    none = (0, 0)
    return [
        {
            "path": path,
            "ops_before": before.get(path, none)[0],
            "ops_after": after.get(path, none)[0],
            "bytes_before": before.get(path, none)[1],
            "bytes_after": after.get(path, none)[1],
        }
        for path in dict.fromkeys((*before, *after))
    ]

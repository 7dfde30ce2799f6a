"""Where a node of an exported graph comes from: module path, class, and the line in the user's own code."""

from __future__ import annotations

import re
from functools import lru_cache

import torch

from ...ir.graph import Loc

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_FOREIGN = re.compile(r"(^|[/\\])(torch|compiler[/\\]capture)[/\\]")


def location(node: torch.fx.Node, prefix: str = "") -> Loc:
    """The place of a node; its path is never empty (`(model)` stands for code outside every submodule)."""
    stack = node.meta.get("nn_module_stack") or {}
    path, cls = prefix, ""
    if stack:
        raw, kind = next(reversed(stack.values()))
        path = _clean(raw) or prefix
        cls = kind.__name__ if isinstance(kind, type) else str(kind).rsplit(".", 1)[-1]
    return Loc(path or "(model)", cls, source_line(node.meta.get("stack_trace")))


@lru_cache(maxsize=65536)
def _clean(path: str) -> str:
    """`L['self'].layers.0@1` -> `layers.0`: torch writes calls after the first as `@1`."""
    path = re.sub(r"^L\['(?:self|fn)'\]\.?", "", path)
    path = re.sub(r"\[['\"]?(\w+)['\"]?\]", r".\1", path)
    return re.sub(r"@\d+", "", path).replace("_modules.", "").strip(".")


@lru_cache(maxsize=65536)
def source_line(trace: str | None) -> str:
    """`file.py:12` of the innermost frame outside torch and capture, or of the innermost frame at all."""
    frames = _FRAME.findall(trace or "")
    if not frames:
        return ""
    own = [f for f in frames if not _FOREIGN.search(f[0])]
    name, line = (own or frames)[-1]
    file = re.split(r"[/\\]", name)[-1]
    return f"{file}:{line}"

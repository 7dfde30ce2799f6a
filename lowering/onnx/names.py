"""Unique ONNX names from module paths: `encoder.layers.3.conv` and Conv give `/encoder/layers.3/conv/Conv`."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=4096)
def folder(path: str) -> str:
    """A module path as PyTorch's exporter writes it: numbers stay with the list that they index."""
    out = ""
    for part in path.split(".") if path else ():
        out += f".{part}" if part.isdigit() and out else f"/{part}"
    return out

"""How ops become ONNX that TensorRT takes: ONNX's own lowerings, and those of this target where they differ."""

from __future__ import annotations

from ..onnx.lower import Lowering, registering
from ..onnx.lower import load_all as load_onnx

OWN: dict[str, Lowering] = {}
lower = registering(OWN)


def load_all() -> dict[str, Lowering]:
    """The table, complete."""
    from . import ops  # noqa: F401  registers the lowerings of this target

    return {**load_onnx(), **OWN}

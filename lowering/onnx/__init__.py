"""The ONNX target: one file a graph, written through onnx-ir, run and checked with onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ...ir.graph import Module, Op
from ..inside import Inside
from ..target import OpTime, Option, Session, Target
from .legal import why_not

EXTERNAL_ABOVE = 2_000_000_000  # bytes: a protobuf message ends at 2 GiB, the rest of the file included


class OnnxTarget(Target):
    """ONNX files of the lowest operator set that suffices."""

    name = "onnx"
    suffix = ".onnx"
    legalize = ("flatten-batch", "simplify")
    precisions = ("float32", "float16", "int8")
    options = (Option("external_above", EXTERNAL_ABOVE, "bytes of weights from which on they go to a file beside"),)

    @property
    def kinds(self) -> frozenset[str]:
        """The ops that the target has in at least one form."""
        from .lower import load_all

        return frozenset(load_all())

    def compress(self, precision: str, calibrated: bool) -> tuple[str, ...]:
        from .integers import compress

        return compress(precision, calibrated)

    def illegal(self, op: Op) -> str | None:
        return why_not(op)

    def emit(self, module: Module, path: Path, precision: str, options: Mapping[str, object]) -> list[Path]:
        from .write import write_module

        given = self.chosen(options)
        for graph in module.graphs.values():
            self.check(graph)
        return write_module(module, Path(path), precision, int(given["external_above"]))

    def load(self, path: Path, threads: int | None = None) -> Session:
        from .run import OnnxSession

        return OnnxSession(Path(path), threads)

    def profile(
        self, path: Path, calls: Iterable[Mapping[str, np.ndarray]], threads: int | None = None
    ) -> list[OpTime]:
        from .profile import profile

        return profile(Path(path), calls, threads)

    def inside(self, path: Path, module: Module, precision: str, options: Mapping[str, object]) -> Inside:
        from ..manifest import find_manifest
        from .inside import OnnxInside

        return OnnxInside(path, find_manifest(path, self.suffix), next(iter(module.graphs.values())))


target = OnnxTarget()

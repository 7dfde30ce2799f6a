"""The TensorRT target: strongly typed ONNX, built into an engine, with or without a GPU at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...ir.graph import Module, Op
from ..inside import Inside
from ..target import Option, Session, Target
from .precisions import PRECISIONS


class TensorRTTarget(Target):
    """One engine a graph, for a range of sizes and some kinds of GPU, and the ONNX file that it is built from."""

    name = "tensorrt"
    suffix = ".engine"
    precisions = PRECISIONS
    options = (
        Option("profile", None, "lengths of time as LEAST,USUAL,LARGEST frames, for example 100,400,1600"),
        Option("batch_profile", None, "rows where the batch varies, as LEAST,USUAL,LARGEST (1,1,8)"),
        Option("compute_capability", None, "GPUs to build for, as 8.6 or 8.0,8.9 (TensorRT-RTX only)"),
        Option("timing_cache", None, "a file of timings, read and written"),
        Option("workspace", None, "bytes that a layer may use while it runs"),
    )

    @property
    def kinds(self) -> frozenset[str]:
        """The ops that the target has in at least one form."""
        from .lower import load_all

        return frozenset(load_all())

    def compress(self, precision: str, calibrated: bool) -> tuple[str, ...]:
        from .precisions import compress

        return compress(precision, calibrated)

    def illegal(self, op: Op) -> str | None:
        from .legal import why_not

        return why_not(op)

    def emit(self, module: Module, path: Path, precision: str, options: Mapping[str, object]) -> list[Path]:
        """Write the engine, its ONNX file and the manifest; all or nothing."""
        from .write import write_module

        given = self.chosen(options)
        for graph in module.graphs.values():
            self.check(graph)
        return write_module(module, Path(path), precision, given)

    def load(self, path: Path, threads: int | None = None) -> Session:
        """The engine on a GPU that it was built for; where there is none, its ONNX file in onnxruntime.

        `Session.runner` says which of them.
        """
        from .run import open_session

        return open_session(Path(path), threads)

    def inside(self, path: Path, module: Module, precision: str, options: Mapping[str, object]) -> Inside | None:
        """Of the ONNX file that the engine was built from; None where the engine itself runs: it shows its outputs."""
        from ..manifest import find_manifest
        from ..onnx.inside import OnnxInside
        from .prepare import prepare
        from .run import PreparedSession, onnx_beside

        if not isinstance(self.load(path), PreparedSession):
            return None
        graph = next(iter(module.graphs.values()))
        return OnnxInside(onnx_beside(path), find_manifest(path, self.suffix), graph, prepare(graph, {})[1])


target = TensorRTTarget()

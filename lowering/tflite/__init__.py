"""The TFLite target: files written from the schema, run by LiteRT in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...ir.graph import Module, Op
from ..inside import Inside
from ..target import Option, Session, Target


class TFLite(Target):
    """One `.tflite` file, a signature a graph, with the model's own names; states are inputs and outputs of it."""

    name = "tflite"
    suffix = ".tflite"
    exact_products = True
    legalize = ("channels-last",)
    precisions = ("float32", "float16", "int8")
    options = (
        Option(
            "fused_lstm",
            False,
            "use the fused LSTM kernel where it fits: faster, but it keeps its state between calls until reset",
        ),
    )

    untimed = (
        "LiteRT's Python interface does not time operators",
        "its benchmark_model does: benchmark_model --graph=FILE --enable_op_profiling=true; or compile for onnx",
    )

    @property
    def kinds(self) -> frozenset[str]:
        from .ops import LOWERINGS

        return frozenset(LOWERINGS)

    def compress(self, precision: str, calibrated: bool) -> tuple[str, ...]:
        from .integers import compress

        return compress(precision, calibrated)

    def illegal(self, op: Op) -> str | None:
        from .legal import illegal

        return illegal(op)

    def emit(self, module: Module, path: Path, precision: str, options: Mapping[str, object]) -> list[Path]:
        """Write the file and its manifest; both or nothing."""
        from .write import write_module

        given = self.chosen(options)
        for graph in module.graphs.values():
            self.check(graph)
        return write_module(module, Path(path), precision, given)

    def load(self, path: Path, threads: int | None = None, isolated: bool | None = None) -> Session:
        """Open a file that `emit` wrote: in a process of its own, or in this one (`isolated=False`, for timing).

        By default in a process of its own, unless this one is there for the file alone (`lowering.target.ALONE`).
        """
        from .run import TFLiteSession

        return TFLiteSession(Path(path), threads, isolated)

    def inside(self, path: Path, module: Module, precision: str, options: Mapping[str, object]) -> Inside:
        from .inside import TFLiteInside

        return TFLiteInside(path, module, self.chosen(options))


target = TFLite()

__all__ = ["TFLite", "target"]

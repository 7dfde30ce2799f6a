"""The TFLite target: files written from the schema, run by LiteRT in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...ir.errors import UsageError
from ...ir.graph import Module, Op
from ..manifest import Manifest, manifest_of
from ..target import Option, Session, Target


class TFLite(Target):
    """One `.tflite` file, a signature a graph, with the model's own names; states are inputs and outputs of it."""

    name = "tflite"
    suffix = ".tflite"
    legalize = ("channels-last",)
    precisions = ("float32", "float16", "int8")
    options = (
        Option(
            "fused_lstm",
            False,
            "use the fused LSTM kernel where it fits: faster, but it keeps its state between calls until reset",
        ),
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
        """Write the file and its manifest. `OSError` where they cannot be written; nothing is left half-written."""
        from .emit import emit_file

        unknown = set(options) - {o.name for o in self.options}
        if unknown:
            raise UsageError("SC013", f"the target tflite has no option {', '.join(sorted(unknown))}")
        for graph in module.graphs.values():
            self.check(graph)
        path = Path(path)
        emitters = emit_file(module.graphs, path, options, module.meta.get("limits", {}))
        described = path.with_suffix(".json")
        try:
            _manifest(module, emitters, path, precision).save(described)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return [path, described]

    def load(self, path: Path, threads: int | None = None, isolated: bool = True) -> Session:
        """Open a file that `emit` wrote: in a process of its own, or in this one (`isolated=False`, for timing)."""
        from .run import TFLiteSession

        return TFLiteSession(Path(path), threads, isolated)


def _manifest(module: Module, emitters, path: Path, precision: str) -> Manifest:
    graphs = list(module.graphs.values())
    manifest = manifest_of(graphs[0], path.name, "tflite", precision, module.meta)
    for state in manifest.states:
        state.file_name, state.output = f"state.{state.name}", f"state.{state.name}.out"
    if any(e.resets for e in emitters.values()):
        manifest.reset = "reset_all_variables"
        manifest.notes.append(
            "fused LSTM kernels keep their state: reset the interpreter's variables before every call"
        )
    return manifest


target = TFLite()

__all__ = ["TFLite", "target"]

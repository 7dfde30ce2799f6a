"""The Core ML target: ML programs in `.mlpackage` folders, run by Core ML on macOS and by an interpreter elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ...ir.graph import Module, Op
from ..inside import Inside
from ..target import Option, Session, Target


class CoreML(Target):
    """One `.mlpackage` a graph; caches in float16 are held by Core ML itself, other states are inputs and outputs."""

    name = "coreml"
    suffix = ".mlpackage"
    folder = True
    legalize = ("flatten-batch", "simplify")
    precisions = ("float16", "float32", "int8")
    default = "float16"
    options = (
        Option("minimum_deployment", None, "oldest system that runs it, as iOS17 or macOS14; the oldest that can"),
        Option("lengths", None, "the lengths that it takes, as 100,200,400, instead of a range"),
        Option("state", "native", "native: Core ML holds float16 caches; explicit: all states are inputs and outputs"),
        Option("author", None, "who made the model, for its metadata"),
        Option("license", None, "the model's licence, for its metadata"),
        Option("description", None, "what the model does, for its metadata"),
    )

    @property
    def kinds(self) -> frozenset[str]:
        from .lower import load_all

        return frozenset(load_all())

    def compress(self, precision: str, calibrated: bool) -> tuple[str, ...]:
        from .integers import compress

        return compress(precision, calibrated)

    def illegal(self, op: Op) -> str | None:
        from .legal import why_not

        return why_not(op)

    def emit(self, module: Module, path: Path, precision: str, options: Mapping[str, object]) -> list[Path]:
        """Write a package a graph and the manifest; all or nothing."""
        from .choices import chosen
        from .write import write_module

        choices = chosen(self.chosen(options))
        for graph in module.graphs.values():
            self.check(graph)
        return write_module(module, Path(path), precision, choices)

    def load(self, path: Path, threads: int | None = None) -> Session:
        from .run import CoreMLSession

        return CoreMLSession(Path(path))

    def inside(self, path: Path, module: Module, precision: str, options: Mapping[str, object]) -> Inside | None:
        """None on macOS, where Core ML runs the package and shows its outputs alone."""
        if sys.platform == "darwin":
            return None
        from .choices import chosen
        from .inside import CoreMLInside

        return CoreMLInside(path, module, precision, chosen(self.chosen(options)))


target = CoreML()

__all__ = ["CoreML", "target"]

"""Opening an engine: on a GPU that it was built for, else the ONNX file that it was built from, in onnxruntime."""

from __future__ import annotations

from pathlib import Path

from ...ir.errors import MissingError, UsageError
from ..manifest import Manifest, find_manifest
from ..onnx.run import OnnxSession
from ..target import Session
from .engine import EngineSession
from .write import onnx_beside


class PreparedSession(OnnxSession):
    """The prepared ONNX file of an engine, run on the processor; `reason` says why the engine itself is not."""

    runner = "onnxruntime, on the prepared ONNX"

    def __init__(self, path: Path, manifest: Manifest, threads: int | None = None, reason: str = ""):
        beside = onnx_beside(path)
        if not beside.exists():
            raise UsageError("SC036", f"{beside} is missing, which is run where the engine cannot be ({reason})")
        super().__init__(beside, threads, manifest)
        self.reason = reason


def open_session(path: Path, threads: int | None = None) -> Session:
    """A session on an engine that `emit` wrote; `PreparedSession.reason` says why there is none on a GPU."""
    manifest = find_manifest(path, ".engine")
    try:
        return EngineSession(path, manifest)
    except MissingError as error:
        return PreparedSession(path, manifest, threads, error.message)

"""Running ONNX files with onnxruntime, states carried from call to call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...ir.errors import NumericalError, UsageError
from ..feeds import checked_feeds
from ..manifest import Manifest, find_manifest, initial_array
from ..target import Session, needs


class OnnxSession(Session):
    """A loaded ONNX file. Arrays go in and out without a copy; results repeat bit by bit on one machine."""

    runner = "onnxruntime"

    def __init__(
        self, path: Path, threads: int | None = None, manifest: Manifest | None = None, trace: Path | None = None
    ):
        """`trace`: what the name of onnxruntime's trace begins with; it writes one at `session.end_profiling()`."""
        ort = needs("onnxruntime", "onnx")
        self.manifest = find_manifest(path, ".onnx") if manifest is None else manifest
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what it would log as an error is raised
        options.use_deterministic_compute = True
        # Products with 8-bit weights and float activations: in float, as the graph says (4, the default, would
        # quantize the activations too).
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        if trace is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(trace)
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UsageError("SC061", f"onnxruntime does not load {path}: {error}") from None
        self._outputs = [o.name for o in self.session.get_outputs()]
        self._states = [p for p in self.manifest.states]
        self.reset()

    def reset(self) -> None:
        # None: an older manifest, whose state starts from the default that the file itself holds.
        self.states = {p.file_name: initial_array(p) for p in self._states if p.initial is not None}

    def run_named(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {**checked_feeds(self.manifest, feeds), **self.states}
        try:
            made = dict(zip(self._outputs, self.session.run(self._outputs, given)))
        except Exception as error:  # onnxruntime's own kinds have no common base but this
            raise NumericalError("SC513", f"onnxruntime cannot run {self.manifest.artefact}: {error}") from error
        for port in self._states:
            self.states[port.file_name] = made[port.output]
        return {p.name: made[p.file_name] for p in self.manifest.outputs}

"""Running ONNX files with onnxruntime, states carried from call to call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...ir.errors import UsageError
from ...ir.types import DTYPES
from ..manifest import Manifest, Port, manifest_path
from ..target import Session, needs


class OnnxSession(Session):
    """A loaded ONNX file. Arrays go in and out without a copy; results repeat bit by bit on one machine."""

    def __init__(self, path: Path, threads: int | None = None):
        ort = needs("onnxruntime", "onnx")
        self.manifest = find_manifest(path)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.use_deterministic_compute = True
        # Products with 8-bit weights and float activations: in float, as the graph says (4, the default, would
        # quantize the activations too).
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
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
        # A state that starts from stored values is an input with a default: it is left out of the first call.
        self.states = {p.file_name: np.full(p.shape, p.initial, DTYPES[p.dtype])
                       for p in self._states if p.initial is not None}  # fmt: skip

    def run_named(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {}
        for port in self.manifest.inputs:
            if port.name not in feeds:
                raise UsageError(
                    "SC110", f"input {port.name} is missing; this file takes {_names(self.manifest.inputs)}"
                )
            given[port.file_name] = _checked(port, np.asarray(feeds[port.name]))
        if len(feeds) != len(given):
            raise UsageError(
                "SC110", f"inputs given: {', '.join(feeds)}; this file takes {_names(self.manifest.inputs)}"
            )
        made = dict(zip(self._outputs, self.session.run(self._outputs, {**given, **self.states})))
        for port in self._states:
            self.states[port.file_name] = made[port.output]
        return {p.name: made[p.file_name] for p in self.manifest.outputs}


def _names(ports: list[Port]) -> str:
    return ", ".join(f"{p.name}: {p.dtype}{p.shape}".replace("'", "") for p in ports)


def _checked(port: Port, array: np.ndarray) -> np.ndarray:
    """The array, if rank, element type and known sizes are what the port says."""
    fits = array.ndim == len(port.shape) and all(isinstance(s, str) or s == n for s, n in zip(port.shape, array.shape))
    if not fits or array.dtype != DTYPES[port.dtype]:
        raise UsageError(
            "SC111",
            f"input {port.name} is {array.dtype}{list(array.shape)}, not {_names([port])[len(port.name) + 2 :]}",
        )
    return array


def find_manifest(path: Path) -> Manifest:
    """The manifest beside a file; one of several graphs (`model.encoder.onnx`) is described in `model.onnx.json`."""
    family = path.with_name(path.name.removesuffix(".onnx").rpartition(".")[0] + ".onnx")
    for beside in (manifest_path(path), manifest_path(family)):
        if beside.exists():
            found = Manifest.load(beside)
            if found.artefact == path.name:
                return found
            for data in found.meta.get("graphs", {}).values():
                if data["artefact"] == path.name:
                    ports = {g: [Port(**p) for p in data[g]] for g in ("inputs", "outputs", "states")}
                    return Manifest(**{**data, **ports})
    raise UsageError("SC036", f"there is no manifest beside {path}", hints=[f"keep {manifest_path(path).name} with it"])

"""Sessions on packages: Core ML itself on macOS, elsewhere an interpreter of the saved program."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...ir.errors import NumericalError, UsageError
from ...ir.types import DTYPES
from ..feeds import checked_feeds
from ..manifest import Port, find_manifest, initial_array
from ..target import Session
from .sdk import sdk

Arrays = dict[str, np.ndarray]


class CoreMLSession(Session):
    """A loaded package. States are kept here, those that Core ML holds too, so that many streams can share a model."""

    def __init__(self, path: Path):
        if not path.exists():
            raise UsageError("SC010", f"there is no file {path}")
        self.manifest = find_manifest(path, ".mlpackage")
        self.engine = (_CoreML if sys.platform == "darwin" else _Interpreter)(path)
        self.runner = self.engine.name
        self.reset()

    def reset(self) -> None:
        self.states = {p.file_name: initial_array(p) for p in self.manifest.states}

    def run_named(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        checked = checked_feeds(self.manifest, feeds)
        self._check_lengths(feeds)
        given = {p.file_name: _outgoing(checked[p.file_name], p) for p in self.manifest.inputs}
        native: Arrays = {}
        for p in self.manifest.states:
            (native if p.native else given)[p.file_name] = _outgoing(self.states[p.file_name], p)
        try:
            made = self.engine.run(given, native)
        except UsageError:
            raise
        except Exception as error:  # neither Core ML nor numpy has a base of its own for what may go wrong
            raise NumericalError("SC514", f"{self.runner} cannot run {self.manifest.artefact}: {error}") from error
        for p in self.manifest.states:
            self.states[p.file_name] = _incoming(native[p.file_name] if p.native else made[p.output], p)
        return {p.name: _incoming(made[p.file_name], p) for p in self.manifest.outputs}

    def _check_lengths(self, feeds: Mapping[str, np.ndarray]) -> None:
        for name, lengths in self.manifest.lengths.items():
            for p in self.manifest.inputs:
                for axis, size in enumerate(p.shape):
                    n = feeds[p.name].shape[axis]
                    if size == name and n not in lengths:
                        known = ", ".join(map(str, lengths))
                        raise UsageError(
                            "SC112", f"{p.name} has {n} entries along axis {axis}; this file takes {known}"
                        )


def _outgoing(array: np.ndarray, p: Port) -> np.ndarray:
    """An array as the package takes it; a copy where nothing else was to do."""
    limits = np.iinfo(np.int32)
    if array.dtype == np.int64:
        array = np.clip(array, limits.min, limits.max)
    return array.astype(DTYPES[p.file_dtype or p.dtype]).reshape(array.shape or (1,))


def _incoming(array: np.ndarray, p: Port) -> np.ndarray:
    """An array of the package as the model means it."""
    array = np.asarray(array)
    return array.astype(DTYPES[p.dtype], copy=False).reshape(array.shape if p.shape else ())


class _Interpreter:
    """The saved program, read back with its weights and evaluated operation by operation."""

    name = "MIL interpreter"

    def __init__(self, path: Path):
        from .interpreter import Program

        self.program = Program.load(path)

    def run(self, feeds: Arrays, states: Arrays) -> Arrays:
        return self.program.run(feeds, states)


class _CoreML:
    """Core ML, where coremltools can call it."""

    name = "Core ML"

    def __init__(self, path: Path):
        ct = sdk()
        self.model = ct.models.MLModel(str(path))
        self.state = None

    def run(self, feeds: Arrays, states: Arrays) -> Arrays:
        if not states:
            return self.model.predict(feeds)
        self.state = self.state or self.model.make_state()
        for name, value in states.items():
            self.state.write_state(name, value)
        made = self.model.predict(feeds, state=self.state)
        for name in states:
            states[name] = np.asarray(self.state.read_state(name), np.float16).reshape(states[name].shape)
        return made

"""What a Core ML package holds inside, as the interpreter of the saved program sees it: values by name, constants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from ...ir.graph import Module, Value
from ..inside import Inside, computed, showing
from ..manifest import find_manifest, manifest_of
from ..target import Session
from .choices import Choices
from .mil_file import Block, read, walk
from .names import plain
from .run import CoreMLSession
from .write import program_of


class CoreMLInside(Inside):
    """A package beside the module that was, or would be, emitted as such a package; its first graph is looked into."""

    def __init__(self, path: Path, module: Module, precision: str, choices: Choices):
        self.path = path
        self.manifest = find_manifest(path, ".mlpackage")
        graph = next(iter(module.graphs.values()))
        _, e = program_of(graph, manifest_of(graph, path.name, "coreml", precision, module.meta), choices)
        made = {id(v): e._values.get(id(v)) for v in computed(graph)}
        self.names = {at: var.name for at, var in made.items() if getattr(var, "op", None) is not None}
        self.weights = tuple(plain(v.name) for op in graph.ops for v in op.operands if v and v.kind == "weight")
        self.types = {id(v): e.real_of(v) for v in computed(graph)}

    @cached_property
    def block(self) -> Block:
        """The program."""
        return read(self.path).block

    @cached_property
    def tensors(self) -> set[str]:
        fixed = ("const", "constexpr_")
        return {n for op in self.block.operations if not op.kind.startswith(fixed) for n, _ in op.outputs}

    def stored(self) -> Iterator[tuple[str, np.ndarray]]:
        for op in walk(self.block):
            given = {**{n: v[0] for n, v in op.inputs.items()}, **op.attributes}
            if op.kind == "const" or op.kind.startswith("constexpr_"):
                for name, value in given.items():
                    if isinstance(value, np.ndarray):
                        yield self._stored_name(op.outputs[0][0]) + ("" if op.kind == "const" else f" ({name})"), value

    def _stored_name(self, name: str) -> str:
        """A constant's name; without the number that coremltools counts up where it is no weight of the graph."""
        return name if name.startswith(self.weights) else re.sub(r"_\d+$", "", name)

    def open(self, values: Iterable[Value], folder: Path) -> Session:
        values = list(values)
        session = CoreMLSession(self.path)
        block = session.engine.program.package.block
        shown = {self.names[id(v)]: self.types[id(v)] for v in values}
        block.outputs += [name for name in shown if name not in block.outputs]
        session.manifest = showing(session.manifest, shown)
        return session

"""A module as one file and its manifest: all graphs, put in place together or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ... import __version__
from ...ir.errors import UsageError
from ...ir.graph import Graph, Module
from ...ir.weights import Weight
from ..files import folder_beside
from ..manifest import Manifest, manifest_of, manifest_path
from .body import Body
from .emit import Emitter
from .file import File

INITIAL = "initial_states"  # the signature that gives the states which start from stored values


def write_module(module: Module, path: Path, precision: str, options: Mapping[str, object]) -> list[Path]:
    """Write `module` at `path`, a signature a graph, and its manifest beside; `UsageError` where that cannot be."""
    beside = manifest_path(path)
    file, emitters = build(module.graphs, options, module.meta.get("limits", {}))
    manifests = {n: manifest(e, path.name, precision, module.meta) for n, e in emitters.items()}
    first = next(iter(manifests.values()))
    if len(manifests) > 1:
        first.meta["graphs"] = {n: asdict(m) for n, m in manifests.items() if m is not first}
    try:
        with folder_beside(path) as folder:
            file.write(folder / path.name, f"speechc {__version__}")
            first.save(folder / beside.name)
            for p in (path, beside):
                (folder / p.name).replace(p)
    except OSError as error:
        raise UsageError(
            "SC060",
            f"cannot write {path}: {error.strerror or error}",
            hints=["choose another place with -o", "make room on the disk or change the permissions"],
        ) from None
    return [path, beside]


def build(
    graphs: Mapping[str, Graph], options: Mapping[str, object] | None = None, limits: Mapping | None = None
) -> tuple[File, dict[str, Emitter]]:
    """The file in memory, and the emitters by graph name."""
    file = File()
    least = {n: bounds[0] for n, bounds in (limits or {}).items() if bounds and bounds[0]}
    emitters = {}
    for name, graph in graphs.items():
        key = "serving_default" if len(graphs) == 1 else name
        emitters[name] = Emitter(file, graph, key, options or {}, least)
    for emitter in emitters.values():
        emitter.emit_graph()
    for name, graph in graphs.items():
        _initial_states(file, graph, INITIAL if len(graphs) == 1 else f"{name}.{INITIAL}")
    return file, emitters


def _initial_states(file: File, graph: Graph, key: str) -> None:
    """A signature without inputs that gives the states which start from stored values."""
    stored = {n: v.payload.initial for n, v in graph.states.items() if isinstance(v.payload.initial, Weight)}
    if not stored:
        return
    body = Body(file, key, {})
    outputs = {}
    for name, weight in stored.items():
        constant = body.const(weight.array, f"{key}/{weight.name}")
        outputs[f"state.{name}"] = body.copy(constant)
    body.declare([], list(outputs.values()))
    file.signature(key, body.graph, {}, {n: body.renumbered[t.index] for n, t in outputs.items()})


def manifest(emitter: Emitter, name: str, precision: str, meta: dict) -> Manifest:
    """The manifest of one graph; states are inputs `state.<name>` and outputs `state.<name>.out`."""
    made = manifest_of(emitter.ir, name, "tflite", precision, meta)
    for state in made.states:
        state.file_name, state.output = f"state.{state.name}", f"state.{state.name}.out"
        if state.initial is None:
            made.notes.append(f"state {state.name} starts with what the signature {INITIAL} gives")
    if emitter.resets:
        made.reset = "reset_all_variables"
        made.notes.append("fused LSTM kernels keep their state: reset the variables before every call")
    return made

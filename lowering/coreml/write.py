"""A module as `.mlpackage` folders and a manifest: built beside their place and moved there, all or nothing."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ... import __version__
from ...ir.errors import UnsupportedError, UsageError
from ...ir.graph import Graph, Module
from ..files import folder_beside
from ..manifest import Manifest, Port, manifest_of, manifest_path, state_bytes
from .choices import STATES, USUAL, Choices
from .emit import Emitter
from .flexible import bounds, input_types, release_for
from .interface import Interface, held_by_core_ml
from .lower import load_all
from .sdk import sdk

SUFFIX = ".mlpackage"
MANIFEST = "speechc.manifest"  # where the metadata of a package holds the whole manifest


def write_module(module: Module, path: Path, precision: str, choices: Choices) -> list[Path]:
    """Write every graph of `module` and their manifest beside `path`; the paths written."""
    stem, single = path.name.removesuffix(SUFFIX), len(module.graphs) == 1
    written: list[Path] = []
    try:
        with folder_beside(path) as folder:
            manifests = {}
            for name, graph in module.graphs.items():
                file = f"{stem}{SUFFIX}" if single else f"{stem}.{name}{SUFFIX}"
                manifests[name] = write_graph(graph, folder / file, precision, module.meta, choices)
            first = next(iter(manifests.values()))
            if not single:
                first.meta["graphs"] = {n: asdict(m) for n, m in manifests.items() if m is not first}
            beside = manifest_path(path)
            first.save(folder / beside.name)
            for file in [*(m.artefact for m in manifests.values()), beside.name]:
                written.append(path.parent / file)
                _put(folder / file, written[-1], folder)
    except OSError as error:
        raise UsageError(
            "SC060",
            f"cannot write {path}: {error.strerror or error}",
            hints=["choose another place with -o", "make room on the disk or change the permissions"],
        ) from None
    return written


def _put(new: Path, place: Path, folder: Path) -> None:
    """Move a file or folder to its place; a folder that was there goes when the new one is in."""
    if place.is_dir():
        old = folder / f"{place.name}.old"
        place.replace(old)
        try:
            new.replace(place)
        except OSError:
            old.replace(place)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.replace(place)


def write_graph(graph: Graph, package: Path, precision: str, meta: dict, choices: Choices) -> Manifest:
    """Write one graph as the folder `package`; its manifest. Raises `UnsupportedError` SC316 for too old a system."""
    ct = sdk()
    manifest = manifest_of(graph, package.name, "coreml", precision, meta)
    program, e = program_of(graph, manifest, choices)
    weights = package.with_name(package.name + ".weights")
    weights.mkdir()
    from coremltools.converters.mil.backend.mil.load import load as to_proto
    from coremltools.models.model import _create_mlpackage

    with warnings.catch_warnings(), _disk_errors():
        warnings.simplefilter("ignore")
        spec = to_proto(
            program, str(weights), specification_version=int(_system(ct, e.release)), convert_to="mlprogram",
            convert_from="milinternal",
        )  # fmt: skip
        _describe(spec, manifest, choices)
        _create_mlpackage(spec, str(weights), str(package))
    shutil.rmtree(weights)
    return manifest


def program_of(graph: Graph, manifest: Manifest, choices: Choices):
    """The MIL program of a graph and what emitted it; fills in what the manifest says of its ports."""
    native = held_by_core_ml(graph, choices)
    release = needed_release(graph, choices, bool(native))
    limits = bounds(manifest, graph, choices)
    e = Emitter(graph, release, {name: b[1] for name, b in limits.items()})
    interface = Interface(e, native, manifest)
    manifest.meta["minimum_deployment"] = f"iOS{release}"
    if manifest.streaming is not None:  # codes are held as real numbers
        manifest.streaming["state_bytes"] = state_bytes(manifest.states)
    return _program(sdk(), e, interface, [], choices, limits), e


@contextmanager
def _disk_errors() -> Iterator[None]:
    """What coremltools' own file writers raise where a disk is full or a file too large, as the error that it is."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in ("writ", "filesystem error", "file system")):
            raise
        raise OSError(None, f"coremltools: {str(error).splitlines()[0]}") from error


def _system(ct, release: int):
    return getattr(ct.target, f"iOS{release}")


def needed_release(graph: Graph, choices: Choices, native: bool) -> int:
    """The iOS release to write for: the user's, if every op is in it, or the first (from 17 on) that has them all."""
    table = load_all()
    needed = {op: table[op.kind].since(op) for op in graph.ops}
    most = max([release_for(graph, choices), *needed.values()], default=0)
    if choices.release is None:
        return max(USUAL, most, STATES if native else 0)
    late = [op for op, since in needed.items() if since > choices.release]
    if most > choices.release:
        where = [f"{op.loc}: {op.kind} is there from iOS{needed[op]} on" for op in late]
        raise UnsupportedError(
            "SC316", f"iOS{choices.release} lacks {len(late)} of {len(graph)} ops" if late else
            f"iOS{choices.release} takes named lengths for one input only", where,
            [f"--minimum-deployment iOS{most}"],
        )  # fmt: skip
    return choices.release


def _program(ct, e: Emitter, interface: Interface, outputs: list, choices: Choices, limits: dict):
    """The MIL program of one graph, as it is: no pass of coremltools changes it."""
    from coremltools.converters.mil.mil import Function, Program

    with Function(interface.placeholders(), opset_version=_system(ct, e.release)) as function:
        e.inputs = dict(function.inputs)
        interface.bind(e.inputs)
        e.walk()
        function.set_outputs(interface.results())
    names = {p.name: p.file_name for p in interface.manifest.inputs}
    function.input_types = input_types(e.graph, names, limits, choices)
    program = Program()
    program.add_function("main", function)
    program._check_early_error_out_for_invalid_program()
    return program


def _describe(spec, manifest: Manifest, choices: Choices) -> None:
    """What the package says about itself, the manifest included."""
    about = spec.description.metadata
    about.author, about.license = choices.author or "", choices.license or ""
    about.shortDescription = choices.description or f"{manifest.artefact.removesuffix(SUFFIX)}, {manifest.precision}"
    about.versionString = f"speechc {__version__}"
    facts = {
        "speechc.precision": manifest.precision,
        "speechc.sample_rate": "" if manifest.sample_rate is None else str(manifest.sample_rate),
        "speechc.source_hash": manifest.source_hash,
        "speechc.tokens": "\n".join(manifest.tokens or ()),
        MANIFEST: json.dumps(asdict(manifest)),
    }
    about.userDefined.update({k: v for k, v in facts.items() if v})
    ports = {p.file_name: p for p in (*manifest.inputs, *manifest.outputs, *manifest.states)}
    carried = {p.output: p for p in manifest.states if p.output}
    for feature in (*spec.description.input, *spec.description.output, *spec.description.state):
        port = ports.get(feature.name) or carried.get(feature.name)
        if port is not None:
            feature.shortDescription = _said(port, port in manifest.states)


def _said(p: Port, state: bool) -> str:
    """One line on an input, output or state."""
    text = f"{p.name}: {p.dtype}[{', '.join(map(str, p.shape))}]"
    if state:
        start = "zeros" if p.initial == 0 else "a number" if not isinstance(p.initial, list) else "stored values"
        return f"state {text}, at first {start if start != 'a number' else p.initial}"
    if p.time is not None:
        text += f", axis {p.time['axis']} is time: {p.time['rate']} a tick of {p.time['clock']}"
    return text

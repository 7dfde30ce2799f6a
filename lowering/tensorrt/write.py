"""Writing engines: the prepared ONNX file, the engine built from it, and the manifest, which says how to rebuild it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ...ir.errors import UsageError
from ...ir.graph import Graph, Module
from ..files import folder_beside
from ..manifest import Manifest, manifest_of, manifest_path
from ..onnx.write import metadata
from .build import Settings, build, sdk
from .command import rebuild, tool
from .prepare import prepare, save
from .profiles import Range, ranges, shapes

EXTERNAL_ABOVE = 1_900_000_000  # bytes of weights: a protobuf message ends at 2 GiB


def write_module(
    module: Module, path: Path, precision: str, options: Mapping[str, object], external_above: int = EXTERNAL_ABOVE
) -> list[Path]:
    """Write an engine for every graph of `module`, each with its ONNX file, and their manifest; the paths written.

    Everything is written into a folder beside the target first and moved from there, so that a failure leaves what was
    there before. Raises as `build`.
    """
    stem = path.name.removesuffix(".engine")
    single = len(module.graphs) == 1
    written: list[Path] = []
    try:
        with folder_beside(path) as folder:
            manifests = []
            for name, graph in module.graphs.items():
                file = f"{stem}.engine" if single else f"{stem}.{name}.engine"
                manifests.append(_write_graph(graph, folder / file, precision, module.meta, options, external_above))
            first = manifests[0]
            if not single:
                first.meta["graphs"] = {n: asdict(m) for n, m in zip(module.graphs, manifests) if m is not first}
            first.save(folder / manifest_path(path).name)
            for file in sorted(folder.iterdir(), key=lambda f: (f.suffix == ".json", f.suffix != ".engine", f.name)):
                written.append(path.parent / file.name)
                file.replace(written[-1])
    except OSError as error:
        raise UsageError(
            "SC060",
            f"cannot write {path}: {error.strerror or error}",
            hints=["choose another place with -o", "make room on the disk or change the permissions"],
        ) from None
    return written


def onnx_beside(engine: Path) -> Path:
    """The ONNX file that an engine is built from: `model.engine.onnx`."""
    return engine.with_name(engine.name + ".onnx")


def _write_graph(
    graph: Graph, path: Path, precision: str, meta: dict, options: Mapping[str, object], external_above: int
) -> Manifest:
    trt = sdk()
    made = manifest_of(graph, path.name, "tensorrt", precision, meta)
    for state in made.states:
        state.file_name, state.output = f"state.{state.name}", f"state.{state.name}.out"
    usual = meta.get("sample_sizes", {})
    chosen = ranges(graph, made.limits, usual, options.get("profile"), options.get("batch_profile"))
    made.limits |= {name: [least, most] for name, (least, _, most) in chosen.items()}
    settings = Settings(
        shapes(graph, chosen),
        capabilities(options.get("compute_capability")),
        None if options.get("timing_cache") is None else Path(str(options["timing_cache"])),
        _bytes(options.get("workspace")),
    )
    model, e = prepare(graph, metadata(made))
    beside = onnx_beside(path)
    save(model, beside, external_above)
    engine, network = build(beside, settings, e.places, e.asked)
    path.write_bytes(engine)
    made.meta["tensorrt"] = {
        "built_by": f"{trt.__name__} {trt.__version__}",
        "compute_capability": list(settings.capabilities),
        "onnx": beside.name,
        "profile": _profile(chosen),
        "rebuild": rebuild(beside.name, path.name, settings),
        "tool": tool(trt.__name__, beside.name, path.name, settings),
        "layers": network.summary(),
    }
    return made


def _profile(chosen: Mapping[str, Range]) -> dict[str, list[int]]:
    return {name: list(r) for name, r in chosen.items()}


def capabilities(given: object) -> tuple[str, ...]:
    """`"8.6"`, `"8.0,8.9"`, 8.6 or a list of them, as texts."""
    if given is None:
        return ()
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, (list, tuple)) else [given]
    return tuple(str(p).strip() for p in parts)


def _bytes(given: object) -> int | None:
    if given is None or (isinstance(given, int) and given > 0):
        return given
    raise UsageError("SC017", f"workspace is {given!r}", hints=["a number of bytes"])

"""What a file is tried on: recordings, or the model's sample and noise, each whole and shorter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...ir.errors import UsageError
from ...ir.expr import symbols
from ...ir.graph import Graph, Module
from ...ir.interpreter import bind_sizes
from ...lowering.manifest import Manifest
from ..audio import SUFFIXES, read_arrays, read_audio
from ..front_end import heard
from ..samples import Feeds, as_feeds, draw, resized, stored_feeds
from ..subject import Subject, limits

MOST = 8  # recordings of a folder: enough to see a fault, few enough for a minute
PARTS = (1.0, 2 / 3, 1 / 4)  # of the first recording; the others are taken whole
IN_TURN = 500  # calls of a model with states of its own: 16 s of 32 ms each
NOISES = 4  # calls, where there are no recordings


@dataclass
class Trial:
    """Inputs to compare on: where they come from, and the length of every axis that varies.

    `after`: those of the calls that follow, for a model with states of its own; `lengths` has the number of calls then.
    """

    name: str
    feeds: Feeds
    lengths: dict[str, int]
    after: list[Feeds] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{n}={k}' for n, k in self.lengths.items())})" if self.lengths else self.name


def trials(
    subject: Subject, graph: Graph, manifest: Manifest, source: Path | None, rate: int | None, most: int = MOST
) -> tuple[list[Trial], str]:
    """The trials, and a sentence on what they are. `graph` is the captured one, whose inputs the model takes.

    Raises `UsageError` SC033 and what reading audio raises, SC034 where the model takes no audio.
    """
    if source is None:
        sizes = bind_sizes(graph, stored_feeds(graph, subject.sample))
        noises = [draw(graph, sizes, seed=1 + i) for i in range(NOISES if graph.states else 1)]
        given = [("the sample", [subject.sample]), ("noise", noises)]
        said = "no recordings (--audio FILE|DIR): the model's own sample, and noise"
    else:
        paths = _paths(source)
        count = min(most, len(paths))
        chosen = [paths[round(i * (len(paths) - 1) / max(1, count - 1))] for i in range(count)]
        given = [(p.name, _read(p, subject.module, graph, rate)) for p in dict.fromkeys(chosen)]
        said = f"{len(given)} of {len(paths)} recordings in {source}" if len(paths) > 1 else str(source)
    made: list[Trial] = []
    for i, (name, (feeds, *after)) in enumerate(given):
        own = bind_sizes(graph, stored_feeds(graph, feeds))
        for part in PARTS if i == 0 else PARTS[:1]:
            wanted = {n: k if n == "batch" else max(1, int(k * part)) for n, k in own.items()}
            wanted = {n: _taken(k, manifest, limits(subject.module), n) for n, k in wanted.items()}
            if after:
                made.append(Trial(name, feeds, {"calls": 1 + len(after)}, after))
                break
            if all(wanted != t.lengths or name != t.name for t in made):
                made.append(Trial(name, feeds if wanted == own else resized(feeds, graph, wanted), wanted))
    return made, said


def _paths(source: Path) -> list[Path]:
    if not source.exists():
        raise UsageError("SC033", f"{source} does not exist")
    kinds = (*SUFFIXES, ".npy", ".npz")
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in kinds) if source.is_dir() else [source]
    if not found:
        raise UsageError("SC033", f"{source} holds no samples ({', '.join(kinds)})")
    return found


def _read(path: Path, module: Module, graph: Graph, rate: int | None) -> list[Feeds]:
    """The inputs of one call; of a model with states of its own that takes one length, those of all in turn."""
    if path.suffix.lower() in (".npy", ".npz"):
        return [as_feeds(graph, read_arrays(path))]
    (port,) = graph.inputs if len(graph.inputs) == 1 else (None,)
    sizes = () if port is None else port.type.sizes
    varying = [i for i, s in enumerate(sizes) if not isinstance(s, int) and "batch" not in symbols(s)]
    axis = varying[-1] if varying else len(sizes) - 1
    wide = [s for i, s in enumerate(sizes) if i != axis and isinstance(s, int) and s != 1]
    if (features := module.meta.get("features")) is not None and not features["inside"]:
        return [as_feeds(graph, [next(iter(heard(module, [read_audio(path, rate)[None]])))])]
    if port is None or wide or not sizes:
        taken = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
        raise UsageError("SC034", f"the model takes {taken}, not audio", hints=[".npy or .npz features"])
    if rate is None:
        raise UsageError("SC034", "the file does not say its sample rate", hints=["--sample-rate HZ"])
    samples = read_audio(path, rate)
    shape = [-1 if i == axis else 1 for i in range(len(sizes))]
    blocks = [samples]
    if isinstance(size := sizes[axis], int):  # one length alone: silence behind, or the beginning
        blocks = list(np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)[: IN_TURN if graph.states else 1])
    return [as_feeds(graph, [block.reshape(shape)]) for block in blocks]


def _taken(n: int, manifest: Manifest, traced: Mapping[str, Sequence[int | None]], name: str) -> int:
    """The length nearest to `n` that both the file and the model as it was traced take."""
    if few := manifest.lengths.get(name):
        return min(few, key=lambda length: abs(length - n))
    for least, most in (manifest.limits.get(name, (1, None)), traced.get(name, (1, None))):
        n = min(max(n, least or 1), most or max(n, least or 1))
    return n


def shortest(found: Sequence[Trial]) -> Trial:
    """The trial with the fewest numbers in it."""
    return min(found, key=lambda t: sum(a.size for a in t.feeds.values()))

"""What a file is tried on: recordings, or the model's sample and noise, each whole and shorter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from ...ir.errors import UsageError
from ...ir.expr import symbols
from ...ir.graph import Graph, Module
from ...ir.interpreter import bind_sizes
from ...ir.turns import Turns
from ...lowering.manifest import Manifest
from ..audio import ARRAYS, Sample, read_samples, samples_in
from ..front_end import hearing
from ..in_turn import MOST as IN_TURN
from ..recordings import Summary
from ..samples import Feeds, as_feeds, draw, resized, stored_feeds
from ..subject import Subject, limits

MOST = 8  # recordings of a folder: enough to see a fault, few enough for a minute
PARTS = (1.0, 2 / 3, 1 / 4)  # of the first recording; the others are taken whole
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

    @property
    def sample(self) -> Feeds:
        """All of it as one sample."""
        return Turns([self.feeds, *self.after]) if self.after else self.feeds

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{n}={k}' for n, k in self.lengths.items())})" if self.lengths else self.name


def trials(
    subject: Subject,
    graph: Graph,
    manifest: Manifest,
    source: Path | None,
    rate: int | None,
    most: int = MOST,
    found: Summary | None = None,
) -> tuple[list[Trial], str]:
    """The trials, and a sentence on what they are. `graph` is the captured one, whose inputs the model takes.

    Of a folder, recordings from its beginning to its end; another in the place of one that cannot be used, which
    `found` counts. Raises as `read_samples`, SC034 where the model takes no audio.
    """
    if source is None:
        sizes = bind_sizes(graph, stored_feeds(graph, subject.sample))
        noises = [draw(graph, sizes, seed=1 + i) for i in range(NOISES if graph.states else 1)]
        given = [("the sample", [subject.sample]), ("noise", noises)]
        said = "no recordings (--audio FILE|DIR): the model's own sample, and noise"
    else:
        paths = samples_in(source)
        count = min(most, len(paths))
        chosen = [paths[round(i * (len(paths) - 1) / max(1, count - 1))] for i in range(count)]
        fed, found = _feeding(subject.module, graph), Summary() if found is None else found
        called = lambda name, sample: (name if source.is_dir() else source.name, fed(name, sample))
        given = list(islice(read_samples(source, rate, called, found, dict.fromkeys([*chosen, *paths])), count))
        said = f"{len(given)} of {len(paths)} recordings in {source}" if len(paths) > 1 else str(source)
        said += f", {len(found.left_out)} left out" if found.left_out else ""
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


def _feeding(module: Module, graph: Graph) -> Callable[[str, Sample], list[Feeds]]:
    """Makes of a sample the inputs of a call; of a model with states of its own that takes one length, all in turn."""
    (port,) = graph.inputs if len(graph.inputs) == 1 else (None,)
    sizes = () if port is None else port.type.sizes
    varying = [i for i, s in enumerate(sizes) if not isinstance(s, int) and "batch" not in symbols(s)]
    axis = varying[-1] if varying else len(sizes) - 1
    wide = [s for i, s in enumerate(sizes) if i != axis and isinstance(s, int) and s != 1]
    features = hearing(module) if not module.meta.get("features", {"inside": True})["inside"] else None

    def fed(name: str, sample: Sample) -> list[Feeds]:
        if Path(name).suffix.lower() in ARRAYS:
            return [as_feeds(graph, sample)]
        if features is not None:
            return [as_feeds(graph, [features(sample)])]
        if port is None or wide or not sizes:
            taken = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
            raise UsageError("SC034", f"the model takes {taken}, not audio", hints=[".npy or .npz features"])
        shape = [-1 if i == axis else 1 for i in range(len(sizes))]
        blocks, (samples,) = [sample], sample
        if isinstance(size := sizes[axis], int):  # one length alone: silence behind, or the beginning
            whole = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
            blocks = list(whole[: IN_TURN if graph.states else 1])
        return [as_feeds(graph, [block.reshape(shape)]) for block in blocks]

    return fed


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

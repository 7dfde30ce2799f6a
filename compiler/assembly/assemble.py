"""Captures the parts of a model as a graph each; what a part computes from another's outputs alone moves there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.errors import CaptureError
from ...ir.graph import Graph, Module
from ...ir.text import clone
from ...passes.hoist import append, hoisted
from ..executor import Executor
from ..in_turn import interpreted
from ..numerics import difference
from ..samples import Feeds, at_lengths
from ..subject import Subject, limits, read_subject
from .parts import Parts

TOLERANCE = 1e-4  # float32 sums in another order, through all layers of two graphs


@dataclass
class Assembly:
    """The graphs of a model's parts, each as a subject of its own, and what was said of them."""

    parts: Parts
    subjects: dict[str, Subject]


def assemble(parts: Parts) -> Assembly:
    """Capture every part; what a part computes from another's outputs alone moves behind the other (see `hoisted`).

    The graphs are proven to do together what the modules do together, at two lengths. Raises `CaptureError` SC407 where
    parts do not fit each other, SC408 where the graphs do something else.
    """
    originals = {name: _named(name, parts) for name in parts.parts}
    graphs = {name: clone(subject.module).main for name, subject in originals.items()}
    given = {port: name for name, graph in graphs.items() for port in graph.output_names}
    for name, graph in list(graphs.items()):
        _hoist(graphs, name, {v.name: given[v.name] for v in graph.inputs if v.name in given})
    _drop_unread(graphs, originals)
    subjects = _subjects(parts, graphs, originals)
    _prove(originals, subjects)
    return Assembly(parts, subjects)


def _named(name: str, parts: Parts) -> Subject:
    part = parts.parts[name]
    subject = read_subject(part.module, part.inputs, part.time_axis)
    graph = subject.module.main
    if len(part.outputs) != len(graph.outputs):
        raise CaptureError("SC407", f"{name} gives {len(graph.outputs)} outputs, not {', '.join(part.outputs)}")
    graph.output_names = list(part.outputs)
    subject.name = name
    subject.sample |= {port: np.asarray(array) for port, array in part.sample.items()}
    return subject


def _hoist(graphs: dict[str, Graph], name: str, memory: dict[str, str]) -> None:
    """Move what the part computes from `memory` alone (input: the part that gives it) behind that part."""
    for giver in dict.fromkeys(memory.values()):
        source, graph = graphs[giver], graphs[name]
        ports = [port for port, by in memory.items() if by == giver]
        for port in ports:
            taken, gives = _type_of(graph, port), source.outputs[source.output_names.index(port)].type
            if taken != gives:
                raise CaptureError("SC407", f"{name} takes {port} as {taken}, {giver} gives {gives}")
        early, graphs[name] = hoisted(graph, ports)
        append(source, early)


def _type_of(graph: Graph, port: str):
    return next(v.type for v in graph.inputs if v.name == port)


def _drop_unread(graphs: dict[str, Graph], originals: dict[str, Subject]) -> None:
    """An output that was there for another part, which now takes what was made of it, is none any more."""
    read = {v.name for graph in graphs.values() for v in graph.inputs}
    before = {v.name for s in originals.values() for v in s.module.main.inputs}
    for graph in graphs.values():
        kept = [(v, n) for v, n in zip(graph.outputs, graph.output_names) if n in read or n not in before]
        graph.outputs, graph.output_names = [v for v, _ in kept], [n for _, n in kept]
        graph.sweep()


def _subjects(parts: Parts, graphs: dict[str, Graph], originals: dict[str, Subject]) -> dict[str, Subject]:
    """Every graph with samples for its inputs: its own, and for what another part gives, what that part gave."""
    made: dict[str, Subject] = {}
    heard: Feeds = {}
    for name, graph in graphs.items():
        own = originals[name]
        meta = dict(own.module.meta) | {"source_hash": parts.digest}
        if parts.sample_rate is not None:
            meta.setdefault("sample_rate", parts.sample_rate)
        meta["notes"] = [*parts.notes, *(n for n in own.module.meta.get("notes", ()) if "training mode" not in n)]
        graph.name = name
        alone = Module({name: graph}, graph.weights, meta)
        alone.weights.drop_unused(set(alone.main.used_weights()))
        sample = {v.name: own.sample[v.name] if v.name in own.sample else heard[v.name] for v in graph.inputs}
        made[name] = Subject(alone, _Meaning(clone(alone)), sample, name)
        heard |= dict(zip(graph.output_names, made[name].reference(sample)))
    return made


class _Meaning:
    """What a captured graph gives for feeds; a session of its own, opened at first use."""

    def __init__(self, module: Module):
        self.graph, self.run = module.main, Executor()

    def __call__(self, *calls: Feeds) -> tuple[np.ndarray, ...]:
        return self.run(self.graph, *calls) if len(calls) == 1 else interpreted(self.graph, *calls)


def _prove(originals: dict[str, Subject], subjects: dict[str, Subject]) -> None:
    """Raise unless the graphs, fed one from the other, give what the modules give, fed one from the other."""
    wanted: Feeds = {}
    found: Feeds = {}
    for name, own in originals.items():
        graph = own.module.main
        for feeds in reversed(at_lengths(own.sample, graph, limits(own.module))):
            theirs = own.reference({v.name: wanted.get(v.name, feeds[v.name]) for v in graph.inputs})
            ours = subjects[name].reference(
                {v.name: found.get(v.name, feeds.get(v.name)) for v in subjects[name].module.main.inputs}
            )
            for port, array in zip(subjects[name].module.main.output_names, ours):
                if port not in graph.output_names:
                    continue
                apart = difference([array], [theirs[graph.output_names.index(port)]])
                if not apart.error <= TOLERANCE:
                    raise CaptureError("SC408", f"{port} of the captured {name} is not the model's: {apart}")
        wanted |= dict(zip(graph.output_names, theirs))
        found |= dict(zip(subjects[name].module.main.output_names, ours))

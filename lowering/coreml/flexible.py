"""Lengths that vary: a range for every input, or a few shapes that are named."""

from __future__ import annotations

from collections.abc import Mapping

from ...ir.errors import UsageError
from ...ir.expr import evaluate, symbols
from ...ir.graph import Graph
from ..manifest import Manifest
from .choices import STATES, Choices
from .sdk import sdk

LONGEST = 1_000_000  # where the model sets no end: a minute of audio at 16 kHz, hours of features
FRAMES, SAMPLES = 100, 16000  # what a free size is where nobody says: of features, of bare audio


def free_sizes(graph: Graph) -> list[str]:
    """The symbols of the inputs' shapes."""
    return sorted({name for v in graph.inputs for s in v.type.sizes for name in symbols(s)})


def bounds(manifest: Manifest, graph: Graph, choices: Choices) -> dict[str, tuple[int, int]]:
    """(least, most) of every free size; the manifest says the same. Raises `UsageError` SC068 for lengths unfit."""
    names = free_sizes(graph)
    made = {}
    for name in names:
        least, most = manifest.limits.get(name, [None, None])
        made[name] = (least or 1, most or max(LONGEST, least or 1))
    if choices.lengths:
        if len(names) != 1:
            found = f"{', '.join(names)} are free" if names else "no size of it is free"
            raise UsageError("SC068", f"lengths are for a model with one free size; here {found}")
        (name,) = names
        low, high = made[name]
        unfit = [n for n in choices.lengths if not low <= n <= high]
        if unfit:
            raise UsageError("SC068", f"length {unfit[0]}: the model takes {low} to {high}")
        made[name] = (choices.lengths[0], choices.lengths[-1])
        manifest.lengths[name] = list(choices.lengths)
    manifest.limits.update({n: list(b) for n, b in made.items()})
    return made


def release_for(graph: Graph, choices: Choices) -> int:
    """The release that named shapes need: several inputs may have them from iOS 18 on."""
    flexible = [v for v in graph.inputs if not v.type.static]
    return STATES if choices.lengths and len(flexible) > 1 else 0


def input_types(
    graph: Graph, names: Mapping[str, str], limits: Mapping[str, tuple[int, int]], choices: Choices
) -> list:
    """What coremltools wants to know of every input whose shape varies; `names` are the file's."""
    ct, made = sdk(), []
    for v in graph.inputs:
        if v.type.static:
            continue
        at = lambda sizes, v=v: [evaluate(s, sizes) for s in v.type.sizes]
        if len(choices.lengths) > 1:  # one alone is a range of one
            (name,) = limits
            shape = ct.EnumeratedShapes(shapes=[at({name: n}) for n in choices.lengths])
        else:
            low, high = ({n: b[i] for n, b in limits.items()} for i in (0, 1))
            common = SAMPLES if v.type.rank <= 2 and v.type.is_float and v.type.shape[-1].time else FRAMES
            usual = at({n: min(max(b[0], common), b[1]) for n, b in limits.items()})
            shape = ct.Shape(
                [
                    a if isinstance(s, int) else ct.RangeDim(lower_bound=a, upper_bound=z, default=u)
                    for s, a, z, u in zip(v.type.sizes, at(low), at(high), usual)
                ]
            )
        made.append(ct.TensorType(name=names[v.name], shape=shape))
    return made

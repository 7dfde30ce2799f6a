"""What is compiled: a captured model or a graph from its text, the original to compare with, and a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import UsageError
from ..ir.graph import Module
from ..ir.text import load as load_text
from ..lowering.manifest import longest
from .in_turn import interpreted
from .samples import Feeds, as_feeds, default_sizes, draw


@dataclass
class Subject:
    """What is compiled: the graph, the original to compare with, and the user's sample.

    `reference(feeds)` starts from the model's initial states; `reference(*calls)` gives the outputs of calls in turn,
    `joined` (see `in_turn`).
    """

    module: Module
    reference: Callable[..., tuple[np.ndarray, ...]]
    sample: Feeds
    name: str


def read_subject(
    model: Any,
    inputs: Any = None,
    time_axis: int | Mapping[str, int] = 1,
    weights: Path | None = None,
    trust_pickle: bool = False,
) -> Subject:
    """Capture a model, or read a `.sir` file; with a sample, drawn at random where the user gave none."""
    if isinstance(model, (str, Path)) and str(model).endswith(".sir"):
        path = Path(model)
        if not path.exists():
            raise UsageError("SC010", f"{path} does not exist")
        module, original = load_text(path), load_text(path)
        graph, sample, name = module.main, None, path.stem
        reference = lambda *calls: interpreted(original.main, *calls)
    else:
        from .capture import capture_with_reference, constants

        module, reference = capture_with_reference(model, inputs, time_axis, weights, trust_pickle)
        sample = None if _describes(inputs) else constants.split(inputs)[0]
        name = name_of(model)
        graph = next(iter(module.graphs.values()))
    feeds = as_feeds(graph, sample) if sample is not None else _drawn(module)
    return Subject(module, reference, feeds, name)


def _describes(inputs: Any) -> bool:
    """Whether inputs are texts (or left to the file), not samples."""
    items = inputs.values() if isinstance(inputs, Mapping) else inputs
    first = next(iter(items), None) if isinstance(inputs, (list, tuple, Mapping)) else inputs
    return first is None or isinstance(first, str)


def _drawn(module: Module) -> Feeds:
    graph = next(iter(module.graphs.values()))
    return draw(graph, default_sizes(graph, module.meta.get("limits", {})))


def name_of(model: Any) -> str:
    """What the files of a model are called where nobody says."""
    if isinstance(model, (str, Path)):
        text = str(model)
        return text.rsplit(":", 1)[1] if ":" in text and not Path(text).exists() else Path(text).stem
    return type(model).__name__.lower()


def most_frames(module: Module) -> int | None:
    """The most frames that the first input with time may have; None: any number."""
    graph = next(iter(module.graphs.values()))
    lengths = (d.size for v in graph.inputs for d in v.type.shape if d.time is not None)
    return next((longest(n, limits(module)) for n in lengths), None)


def limits(module: Module) -> dict[str, list[int | None]]:
    """The range of every symbolic size that the capture found."""
    return module.meta.get("limits", {})

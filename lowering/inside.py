"""What a file holds inside: its tensors as the values of the graph it was made from, and the arrays it stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..ir.graph import Graph, Value
from .manifest import Manifest, Port
from .target import Session


def port_name(tensor: str) -> str:
    """What a session opened by `Inside.open` calls a tensor that is shown."""
    return f"inside {tensor}"


class Inside(ABC):
    """A file beside the graph that its model compiles to. `names` gives the tensor of a graph's value by `id(value)`.

    The names are those that emitting the graph gives, so they fit a file emitted from the same graph; `tensors` says
    which there are in this one.
    """

    names: dict[int, str]

    @property
    @abstractmethod
    def tensors(self) -> set[str]:
        """Names of the tensors that the file computes."""

    @abstractmethod
    def stored(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every array that the file holds, by name, one at a time."""

    @abstractmethod
    def open(self, values: Iterable[Value], folder: Path) -> Session:
        """A session on the file, its weights and ops unchanged, that gives these values as outputs too.

        They come as `port_name(tensor)`. What a copy of the file needs is written into `folder`. More outputs can
        change which ops a runtime fuses, and so the last bits.
        """


def showing(manifest: Manifest, shown: Mapping[str, str], names: Mapping[str, str] | None = None) -> Manifest:
    """The manifest of a file with more outputs: `shown` holds the element type of each tensor, `names` what it is
    called as an output, where that is not its own name."""
    more = [Port(port_name(t), (names or {}).get(t, t), dtype, ["any"]) for t, dtype in shown.items()]
    return replace(manifest, outputs=[*manifest.outputs, *more])


def computed(graph: Graph) -> Iterator[Value]:
    """Every result of a graph, in order."""
    for op in graph.ops:
        yield from op.results

"""Turn an offline graph into the graph of one step, whose outputs, chunk after chunk, are those of the whole."""

from __future__ import annotations

from ..ir.errors import UsageError
from ..ir.graph import Graph
from .base import Context, Pass
from .base import Streaming as StreamedIsWhole
from .free_batch import FreeBatch


class Streaming(Pass):
    """One step of `chunk` input frames, with explicit state (after tract's pulse and sequence-layers).

    `batch`: independent streams in one step (0: as many rows as the model was captured with); the batch of a capture
    for a fixed one is made to vary first (free-batch, with `own`). `cache`: what attention keeps of the past, keys and
    values ("speed") or, where that is less, what they are computed from ("memory").
    `most`: frames of input that the model can take at all (0: any number): it bounds what attention sees of the past.
    """

    name, stage, equal = "streaming", "streaming", StreamedIsWhole()
    chunk: int = 0
    batch: int = 0
    cache: str = "speed"
    most: int = 0
    own: bool = False

    def run(self, graph: Graph, context: Context) -> None:
        from .stream.step import Options
        from .stream.walk import replaced, stream

        if self.chunk < 1 or self.cache not in ("speed", "memory"):
            raise UsageError("SC022", f"{self}: wants a chunk of 1 frame or more, and cache='speed' or 'memory'")
        if not context.allow():
            return
        streams = self.batch or rows(graph)
        if streams > 1:
            FreeBatch(must=True, own=self.own).run(graph, Context())
        step = stream(graph, self.chunk, streams, Options(self.cache, self.most))
        replaced(graph, step.graph)
        for message, op in step.notes:
            context.remark("note", self.name, message, op)


def rows(graph: Graph) -> int:
    """The batch a graph was captured with: the first dimension of its first input with time, if that is not time."""
    for v in graph.inputs:
        if any(d.time is not None for d in v.type.shape):
            first = v.type.shape[0]
            return first.size if first.time is None and v.type.rank > 1 and isinstance(first.size, int) else 1
    return 1

"""Copies of the graph along a compilation that changes its meaning or makes it a step: what the proof compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from fractions import Fraction

from ..ir.errors import UsageError
from ..ir.expr import symbols
from ..ir.graph import Graph, Module
from ..ir.text import clone
from ..ir.types import Tensor
from ..lowering.manifest import manifest_of
from ..lowering.streaming import layout_of
from ..passes.base import Context, Pass
from ..passes.base import Streaming as StreamedIsWhole
from ..passes.durations import MEASURED
from ..passes.streaming import rows


class Stages:
    """An observer of passes that keeps the graph before the rewrites, after them, and before the streaming pass.

    `normal` and `rewritten` are None where nothing is rewritten, `whole` where nothing is streamed.
    """

    def __init__(self, passes: Sequence[Pass], module: Module):
        self.passes = list(passes)
        self.at = _places(passes)
        self.normal: Module | None = None
        self.rewritten: Module | None = None
        self.whole: Module | None = None
        self(0, None, module, None)

    def __call__(self, index: int, p: Pass | None, module: Module, step: object) -> None:
        for name, wanted in self.at.items():
            if wanted == index:
                setattr(self, name, clone(module))

    def branched(self, passes: Sequence[Pass], done: int, module: Module) -> Stages:
        """Copies made so far, for a compilation of `module` that goes on behind the first `done` of `passes`."""
        again = copy(self)
        again.passes, again.at = list(passes), _places(passes)
        again(done, None, module, None)
        return again

    @property
    def streams(self) -> bool:
        """Whether the result is a step graph."""
        return "whole" in self.at

    def describe(self, module: Module, hz: Fraction | None) -> None:
        """Note in `module.meta` what a runner of its step graph must know.

        Raises `UsageError` SC051 where the graph does not hold as many streams as were asked for.
        """
        index, whole = self.at["whole"], next(iter(self.whole.graphs.values()))
        batch = self.passes[index].batch or rows(whole)
        step = next(iter(module.graphs.values()))
        layout = layout_of(manifest_of(step, "", "", "float32", {}), batch)
        named = [*((v.name, v) for v in whole.inputs), *zip(whole.output_names, whole.outputs)]
        axes = {name: stream_axis(v.type, batch) for name, v in named}
        first = layout.inputs[0].name
        if batch > 1 and axes[first] is None:
            raise UsageError(
                "SC051",
                f"the model's input {first} is not for {batch} streams",
                hints=[
                    f"capture it with a batch that varies: --input {first}=f32[batch,T]",
                    "one file for one stream: Artifact.stream(n) runs any number of them in turn",
                ],
            )
        clock = next(d.time.clock for v in step.inputs for d in v.type.shape if d.time is not None)
        length = layout.inputs[0].length
        facts = {"chunk": layout.chunk, "batch": batch, "clock": clock, "length": str(length)}
        module.meta["streaming"] = facts | {"symbol": next(iter(symbols(length)))}
        module.meta["tick_hz"] = None if hz is None else int(hz) if hz.denominator == 1 else float(hz)
        module.meta["port_batch"] = {n: a for n, a in axes.items() if a is not None} if batch > 1 else {}
        module.meta["state_batch"] = self._axes(step, batch) if batch > 1 else {}

    def _axes(self, step: Graph, batch: int) -> Mapping[str, int]:
        """The axis of every state that counts streams: the one that grows with one stream more."""
        more, own = clone(self.whole), Context()
        for index, p in enumerate(self.passes[self.at["whole"] :]):
            again = type(p)(**{**vars(p), "batch": batch + 1}) if index == 0 else p
            for graph in more.graphs.values():
                again.run(graph, own)
                graph.sweep()
        larger = next(iter(more.graphs.values())).states
        found = {}
        for name, v in step.states.items():
            sizes = zip(v.type.sizes, larger[name].type.sizes) if name in larger else ()
            found[name] = next((i for i, (a, b) in enumerate(sizes) if a != b), None)
        return {name: axis for name, axis in found.items() if axis is not None}


def _places(passes: Sequence[Pass]) -> dict[str, int]:
    """After how many passes each copy is made."""
    rewriting = [i for i, p in enumerate(passes, 1) if p.equal == MEASURED]
    streaming = [i for i, p in enumerate(passes, 1) if isinstance(p.equal, StreamedIsWhole)]
    at = {"whole": streaming[0] - 1} if streaming else {}
    return at | ({"normal": rewriting[0] - 1, "rewritten": rewriting[-1]} if rewriting else {})


def stream_axis(type: Tensor, batch: int) -> int | None:
    """The dimension of a value of the whole graph that holds the streams of a batch; None: it is of none of them."""
    varies = (i for i, d in enumerate(type.shape) if not isinstance(d.size, int) and "batch" in symbols(d.size))
    fixed = type.rank > 1 and type.shape[0].time is None and type.shape[0].size == batch
    return next(varies, 0 if fixed else None)

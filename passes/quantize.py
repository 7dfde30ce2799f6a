"""The quantizer: 8-bit arithmetic with calibrated or run-time scales, or 8-bit weights alone, for every target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ..ir.errors import UsageError
from ..ir.graph import Builder, Graph, Loc, Module, Op
from ..ir.text import clone
from .base import Context, Lossy, Pass
from .calibrate import METHODS, Histogram, observe
from .quantize_fallback import Noise, affordable
from .quantize_place import INPUTS, Placement, inputs_of
from .quantize_select import Selection, words
from .quantize_weights import WEIGHTS, codes, elements, rows, weights_of

SHALLOW = 16  # products a result
MODES = ("static", "dynamic", "weights")
PER = ("tensor", "row")


class Quantize(Pass):
    """Run matrix products and convolutions in 8 bits.

    `mode`: "static" puts every activation on a grid found by calibration (needs samples), "dynamic" quantizes
    activations while running (`per` "tensor", or "row" of the last axis of what a matrix product reads), "weights"
    keeps weights in 8 bits and computes in floating point. Weights are symmetric, with a scale per output channel;
    biases stay float.

    Which ops: `kinds` run in integers; "depthwise" is a conv with one input channel a group, "grouped" one with several
    in groups, "shallow" a product or conv whose results sum fewer than 16 products, as the first of a subsampling does.
    `outputs` are those of them whose integer kernels write 8 bits, so that their results are on a grid too; `glue` are
    pointwise kinds that do so where everything around them does. `store` are kinds whose weights are kept in 8 bits
    though they compute in floating point. A target's table says what goes where. Of these, `keep` leaves the front end
    ("front_end": what computes features) and the last projection ("last") in float, `exclude` what matches a module
    path pattern, `least` what has fewer weights (but not in "static": between integer ops a small one pays too).

    Ranges: `method` "min-max", "percentile" (the share `percentile` of numbers inside) or "mse"; `activations` is
    "u8" or "i8"; `symmetric` puts zero in the middle. `reach`: in "static", ops that cost the most stay in float until
    the samples come out with so many dB (0: as it comes).
    """

    name, stage, equal = "quantize", "compress", Lossy("snr", 20.0)
    mode: str = "static"
    kinds: str = "linear, conv, depthwise"
    outputs: str = ""
    glue: str = ""
    store: str = "gather, lstm, gru, rnn"
    keep: str = "front_end, last"
    exclude: str = ""
    least: int = 512
    per: str = "tensor"
    activations: str = "i8"
    symmetric: bool = False
    method: str = "percentile"
    percentile: float = 99.999
    reach: float = 0.0

    def __post_init__(self):
        for option, known in (("mode", MODES), ("method", METHODS), ("activations", ("i8", "u8")), ("per", PER)):
            if getattr(self, option) not in known:
                text = f"quantize: {option} is {getattr(self, option)!r}"
                raise UsageError("SC023", text, hints=[f"one of {', '.join(known)}"])
        for option in ("kinds", "outputs", "glue", "store"):
            unknown = set(words(getattr(self, option))) - {*WEIGHTS, *INPUTS, "depthwise", "grouped", "shallow"}
            if unknown:
                raise UsageError("SC023", f"quantize: {option} names {', '.join(sorted(unknown))}")
        if set(words(self.keep)) - {"front_end", "last"}:
            raise UsageError("SC023", f"quantize: keep is {self.keep!r}", hints=["front_end, last"])

    def run(self, graph: Graph, context: Context) -> None:
        selection = Selection(graph, frozenset(words(self.keep)), words(self.exclude), self.least)
        sites, stored, glue = [], [], []
        for op in graph.ops:
            kind, has_weights = kind_of(op), bool(weights_of(op))
            integer = self.mode != "weights" and kind in words(self.kinds)
            if not integer and kind in words(self.glue):
                glue += [op] if selection.why_not(op) is None else []
                continue
            if not integer and not has_weights:
                continue
            why = selection.why_not(op, small=integer and self.mode == "static")
            if why is None and not integer and kind not in words(self.store):
                why = f"{kind} is not among the kinds that run in integers or are stored in 8 bits"
            if why is None and integer and not self._runnable(op):
                why = "what it reads is known at compile time"
            if why is not None:
                context.remark("missed", self.name, f"{op.kind} stays in floating point: {why}", op)
            elif context.allow():
                (sites if integer else stored).append(op)
        if self.mode == "static":
            self._static(graph, sites, glue, context)
        else:
            for op in sites:
                self._dynamic(graph, op, context)
        for op in stored:
            _store(graph, op, context)
        graph.sweep()

    def _runnable(self, op: Op) -> bool:
        if self.mode == "dynamic":
            return bool(weights_of(op)) and bool(inputs_of(op))
        return len(inputs_of(op)) == len(INPUTS[op.kind])

    def _static(self, graph: Graph, sites: list[Op], glue: list[Op], context: Context) -> None:
        if not sites:
            return
        writes = {op for op in sites if kind_of(op) in words(self.outputs)}
        place = Placement(graph, sites, glue, writes)
        seen = _observed(graph, place, context)
        if self.reach:
            kept, reached = affordable(sites, self._noise(graph, glue, writes, seen, context), self.reach)
            if len(kept) < len(sites):
                said = f"{len(sites) - len(kept)} of {len(sites)} ops stay in float to reach {reached:.1f} dB"
                context.remark("note", self.name, said, Loc(""))
            for op in sites:
                if op not in kept:
                    context.remark("missed", self.name, f"{op.kind} stays in floating point: it costs the most", op)
            if len(kept) < len(sites):
                place = Placement(graph, kept, glue, writes)
                seen = _observed(graph, place, context, seen)
        place.choose(seen, self.activations, self.symmetric, self.method, self.percentile)
        for op in (*place.sites, *place.glue):
            grids = ", ".join(f"{place.grids[place.origin(v)].scale:.3g}" for _, v in inputs_of(op))
            context.remark("applied", self.name, f"{op.kind} in integers, input scale {grids}{_per_channel(op)}", op)
        place.build()

    def _noise(
        self, graph: Graph, glue: list[Op], writes: set[Op], seen: dict[int, Histogram], context: Context
    ) -> Noise:
        """What quantizing some ops adds to the outputs, on the first and the last sample; the worst output counts."""
        feeds = context.samples[:: max(1, len(context.samples) - 1)]
        right = [context.run(graph, f) for f in feeds]

        def noise(some: Sequence[Op]) -> float:
            copy = clone(Module({graph.name: graph}, graph.weights)).main
            twins = dict(zip(graph.ops, copy.ops))
            values = {v: w for op, twin in twins.items() for v, w in zip(op.results, twin.results)}
            values |= dict(zip(graph.inputs, copy.inputs))
            there = lambda ops: [twins[op] for op in ops]
            place = Placement(copy, there(some), there(glue), set(there(op for op in some if op in writes)))
            known = {id(w): seen[id(v)] for v, w in values.items() if id(v) in seen}
            known = _observed(copy, place, context, known)
            place.choose(known, self.activations, self.symmetric, self.method, self.percentile)
            place.build()
            return max(_noise(context.run(copy, f), r) for f, r in zip(feeds, right))

        return noise

    def _dynamic(self, graph: Graph, op: Op, context: Context) -> None:
        per = self.per if op.kind == "linear" else "tensor"  # a window reads many rows: one scale for all
        note = f"{op.kind} in integers, input scale per {per} at run time{_per_channel(op)}"
        context.remark("applied", self.name, note, op)
        b = Builder(graph, op.loc.through(self.name), before=op)
        operands = list(op.operands)
        for i, w, axis in weights_of(op):
            operands[i] = codes(b, w, axis)
        graph.replace(op.result, b.emit(op.kind, operands, {**op.attrs, "dynamic": per}))
        graph.erase(op)


def _observed(
    graph: Graph, place: Placement, context: Context, known: Mapping[int, Histogram] = MappingProxyType({})
) -> dict[int, Histogram]:
    """The histograms that `place` needs, by identity of the value: those `known`, the others from the samples."""
    missing = [v for v in place.to_calibrate() if id(v) not in known]
    return {**known, **(observe(graph, missing, context) if missing else {})}


def kind_of(op: Op) -> str:
    """The kind of `op`, as tables of integer kernels name it: some convolutions are kinds of their own."""
    if op.kind not in ("conv", "linear"):
        return op.kind
    sizes = op.operands[1].type.sizes
    if op.kind == "conv" and op.attrs["groups"] > 1:
        return "depthwise" if sizes[1] == 1 else "grouped"
    return "shallow" if int(np.prod(sizes[1:])) < SHALLOW else op.kind


def _noise(found: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    squares = lambda a: float((a.astype(np.float64) ** 2).sum())
    floats = [(a, b) for a, b in zip(found, right) if b.dtype.kind == "f"]
    return max((squares(a - b) / max(squares(b), 1e-30) for a, b in floats), default=0.0)


def _per_channel(op: Op) -> str:
    return "".join(f", {elements(w)} weights per channel" for _, w, _ in weights_of(op))


def _store(graph: Graph, op: Op, context: Context) -> None:
    """Keep the weights of `op` in 8 bits; it computes in floating point."""
    context.remark("applied", Quantize.name, f"{op.kind} computes in float{_per_channel(op)}", op)
    b = Builder(graph, op.loc.through(Quantize.name), before=op)
    if op.kind == "gather" and op.attrs["axis"] == 0:
        graph.replace(op.result, rows(b, op.operands[0], op.operands[1]))
        graph.erase(op)
        return
    for i, w, axis in weights_of(op):
        op.set_operand(i, b.dequantize(codes(b, w, axis)))

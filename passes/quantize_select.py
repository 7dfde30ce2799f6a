"""Which ops are quantized and which stay in floating point: features, last projection, small ones, by module path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..ir.graph import Graph, Op, Value
from .quantize_weights import elements, weights_of

# Nothing trained has happened upstream of the first of these: that is where a front end ends at the latest.
TRAINED = frozenset(
    ("relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus", "erf", "softmax", "log_softmax")
    + ("layer_norm", "rms_norm", "group_norm", "batch_norm", "attention", "lstm", "gru", "rnn", "max_pool")
)
# What turns a spectrum into features: magnitude, power and logarithm.
SPECTRAL = frozenset(("log", "sqrt", "abs", "pow"))


def front_end(graph: Graph) -> set[Op]:
    """The ops that compute features: every spectral op that no activation, norm or recurrence precedes, with all that
    it is computed from.

    This takes in framing, windows, DFT and mel filters (as convolutions or matrix products), power and logarithm; a
    network that starts from raw audio or from features has no such op and no front end.
    """
    trained: set[Op] = set()
    marks: list[Op] = []
    for op in graph.ops:
        if op.kind in TRAINED or any(s in trained for s in _sources(op)):
            trained.add(op)
        elif op.kind in SPECTRAL or (op.kind == "mul" and op.operands[0] is op.operands[1]):
            marks.append(op)
    found: set[Op] = set()
    while marks:
        op = marks.pop()
        if op not in found:
            found.add(op)
            marks.extend(_sources(op))
    return found


def last_projections(graph: Graph) -> set[Op]:
    """The matrix products and convolutions whose result becomes an output by ops of one moving operand alone.

    A sum of two computed values (a residual) ends the search, so a network without a projection at its end has none.
    """
    found: set[Op] = set()
    for value in graph.outputs:
        while value.op is not None:
            op = value.op
            if op.kind in ("linear", "conv", "conv_transpose", "matmul"):
                found.add(op)
                break
            moving = [v for v in op.operands if v is not None and not v.known]
            if len(moving) != 1:
                break
            value = moving[0]
    return found


def _sources(op: Op) -> list[Op]:
    return [v.op for v in op.operands if v is not None and v.op is not None]


@dataclass
class Selection:
    """Says of every op why it must stay in floating point, or None.

    `keep` holds "front_end" and "last" (either may be left out), `patterns` module paths (fnmatch), `least` is the
    number of weights below which 8 bits do not pay.
    """

    graph: Graph
    keep: frozenset[str]
    patterns: tuple[str, ...]
    least: int

    def __post_init__(self):
        self._front = front_end(self.graph) if "front_end" in self.keep else set()
        self._last = last_projections(self.graph) if "last" in self.keep else set()

    def why_not(self, op: Op, small: bool = False) -> str | None:
        """The reason why `op` stays in floating point; None if it may be quantized. `small`: however few weights."""
        tests: list[tuple[Callable[[Op], bool], str]] = [
            (lambda op: op in self._front, 'it computes features (keep="front_end")'),
            (lambda op: op in self._last, 'it is the last projection (keep="last")'),
            (self._named, "its module path was excluded (exclude=…)"),
            (lambda op: op.results[0].type.dtype != "f32", "it does not compute in f32"),
            (self._unknown, "its weights are computed at run time"),
            (lambda op: not small and self._small(op), f"fewer than {self.least} weights do not pay"),
        ]
        return next((reason for test, reason in tests if test(op)), None)

    def _named(self, op: Op) -> bool:
        return any(fnmatchcase(op.loc.path, p) for p in self.patterns)

    def _unknown(self, op: Op) -> bool:
        return op.kind in ("linear", "conv", "conv_transpose", "lstm", "gru", "rnn") and not weights_of(op)

    def _small(self, op: Op) -> bool:
        weights = weights_of(op)
        return bool(weights) and sum(elements(w) for _, w, _ in weights) < self.least


def words(text: str) -> tuple[str, ...]:
    """The words of an option that holds a list: separated by commas or spaces."""
    return tuple(text.replace(",", " ").split())


def data_operands(op: Op) -> list[tuple[int, Value]]:
    """The operands of `op` that are computed at run time (weights, biases and literals left out)."""
    weights = {i for i, _, _ in weights_of(op)}
    return [(i, v) for i, v in enumerate(op.operands) if v is not None and i not in weights and not v.known]

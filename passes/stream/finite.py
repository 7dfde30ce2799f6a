"""Garbage that is finite: attention multiplies what it does not see by 0, and 0 · NaN is NaN.

Masking keys and values before every attention would do. It is enough, and cheaper, to mask the inputs, and behind the
few ops that can make an infinity of a finite number: what all others compute from finite numbers is finite.
"""

from __future__ import annotations

from ...ir.graph import Graph, Op, Value
from ...ir.registry import definition
from .constants import known_array
from .facts import Fact, Stream
from .step import Step

# Finite results from finite operands, sums of very large numbers aside: garbage is what the model makes of silence.
KEEPS = frozenset(
    """
    linear matmul conv conv_transpose avg_pool overlap_add add sub mul minimum maximum neg abs sign relu leaky_relu
    elu gelu silu sigmoid tanh erf sin cos softplus floor ceil round where softmax layer_norm rms_norm batch_norm
    sum mean max min lstm gru rnn attention resize quantize dequantize cast iota size equal less less_equal argmax
    """.split()  # noqa: SIM905  a word list reads best as words
)


def watched(graph: Graph) -> set[int]:
    """The values that some attention is computed from."""
    found: set[int] = set()
    for op in reversed(list(graph.ops)):
        over_time = op.kind == "attention" and any(d.time is not None for d in op.operands[1].type.shape)
        if over_time or any(id(r) in found for r in op.results):
            found.update(id(v) for v in op.operands if v is not None)
    return found


def finite(step: Step, v: Value) -> bool:
    """Whether a value of the step graph is finite, garbage included."""
    if id(v) not in step.finite:
        step.finite[id(v)] = _finite(step, v)
    return step.finite[id(v)]


def _finite(step: Step, v: Value) -> bool:
    if not v.type.is_float or v.kind in ("weight", "const", "state"):
        return True  # codes and counts; weights; states hold what was finite in the step before
    op = v.op
    if op is None:
        return False
    if op.kind == "div":
        divisor = known_array(op.operands[1])
        return divisor is not None and bool((divisor != 0).all()) and finite(step, op.operands[0])
    if op.kind not in KEEPS and not definition(op.kind).carries:
        return False
    return all(v is None or finite(step, v) for v in op.operands)


def guarded(step: Step, x: Stream) -> Stream:
    """x, or x with zeros for its garbage where that may be infinite."""
    if finite(step, x.value):
        return x
    made = step.masked(x, 0.0)
    step.finite[id(made.value)] = True
    return made


def settle(step: Step, op: Op | None, old: Value, fact: Fact | None) -> Fact | None:
    """The fact of a value that attention reads later: finite from here on."""
    if not isinstance(fact, Stream) or id(old) not in step.watched or not fact.value.type.is_float:
        return fact
    if (op is not None and (op.kind in KEEPS or definition(op.kind).carries)) or fact.pads is not None:
        return fact
    return guarded(step, fact)

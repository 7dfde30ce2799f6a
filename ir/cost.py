"""What a graph costs to run, from its types alone: parameters, multiply-accumulates, memory; sizes may be symbolic.

A multiply and the addition of its product count as one. As in the usual counters (torch.utils.flop_counter: two each),
only products of matrices and windows count; biases, activations and normalisations do not. Attention counts every
score, masked ones too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .expr import Size, parse_size
from .graph import Graph, Op
from .liveness import peak_bytes, tensor_bytes
from .registry import definition

MACS: dict[str, Callable[[Op], Size]] = {}


def macs(kind: str):
    """Register how many multiply-accumulates one op of a kind takes, from its types and attributes."""

    def register(count: Callable[[Op], Size]) -> Callable[[Op], Size]:
        MACS[kind] = count
        return count

    return register


def elements(*sizes: Size) -> Size:
    """The product of sizes."""
    return math.prod(sizes, start=1)


def _sizes(op: Op, *names: str) -> list[tuple[Size, ...] | None]:
    """The sizes of operands by name; None where one is left out."""
    at = definition(op.kind).operands
    return [None if (v := op.operands[at.index(n)]) is None else v.type.sizes for n in names]


@macs("matmul")
def _(op):
    (a,) = _sizes(op, "a")
    return elements(*op.result.type.sizes) * a[-1]


@macs("linear")
def _(op):
    x, w = _sizes(op, "x", "w")
    return elements(*x[:-1], *w)


@macs("conv")
def _(op):
    (w,) = _sizes(op, "w")
    return elements(*op.result.type.sizes, *w[1:])


@macs("conv_transpose")
def _(op):
    x, w = _sizes(op, "x", "w")
    return elements(*x, *w[1:])


@macs("attention")
def _(op):
    q, k, v = _sizes(op, "q", "k", "v")
    return elements(*op.result.type.sizes[:-1], k[-2]) * (q[-1] + v[-1])


@macs("lstm")
def _(op):
    x, w, r, proj = _sizes(op, "x", "w", "r", "proj")
    return elements(x[0], x[1]) * (elements(*w) + elements(*r) + (elements(*proj) if proj else 0))


@macs("gru")
@macs("rnn")
def _(op):
    x, w, r = _sizes(op, "x", "w", "r")
    return elements(x[0], x[1]) * (elements(*w) + elements(*r))


@dataclass
class Module:
    """What the ops of one module of the user's model cost: elements of its weights, and multiply-accumulates."""

    parameters: int = 0
    macs: Size = 0


@dataclass
class Cost:
    """What one call of a graph costs.

    `macs` are all, `int8_macs` those among them whose operands are both integers. Bytes: `weight_bytes` of the weights
    that ops read; `activation_bytes` at the peak (`liveness.peak_bytes`), `unshared_bytes` the same without in-place
    writing. `modules` by module path. `uncounted`: kinds of ops of plugins that nobody registered a count for.
    """

    parameters: int = 0
    weight_bytes: int = 0
    macs: Size = 0
    int8_macs: Size = 0
    activation_bytes: Size = 0
    unshared_bytes: Size = 0
    modules: dict[str, Module] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: sizes are numbers, or text where they depend on a symbol."""
        plain = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "modules"}
        modules = {path: {"parameters": m.parameters, "macs": _plain(m.macs)} for path, m in self.modules.items()}
        return plain | {"modules": modules}

    @staticmethod
    def of(data: Mapping[str, Any]) -> Cost:
        """Read `as_dict` back."""
        known = {f.name: _size(data[f.name]) for f in fields(Cost) if f.name != "modules" and f.name in data}
        modules = {p: Module(m["parameters"], _size(m["macs"])) for p, m in data.get("modules", {}).items()}
        return Cost(**known, modules=modules)


def _plain(value: Size | list[str]) -> int | str | list[str]:
    return value if isinstance(value, (int, list)) else str(value)


def _size(value: int | str | list[str]) -> Size | list[str]:
    return parse_size(value) if isinstance(value, str) else value


def cost(graph: Graph) -> Cost:
    """Count a graph; a weight that several modules share counts once, for the first."""
    made, seen, uncounted = Cost(), set(), set()
    for op in graph.ops:
        module = made.modules.setdefault(op.loc.path, Module())
        for v in op.operands:
            if v is not None and v.kind == "weight" and v.name not in seen:
                seen.add(v.name)
                module.parameters += elements(*v.type.sizes)
                made.weight_bytes += tensor_bytes(v.type)
        count = MACS.get(op.kind)
        if count is None:
            uncounted |= set() if _core(op.kind) else {op.kind}
            continue
        module.macs += count(op)
        if _integer(op):
            made.int8_macs += count(op)
    made.modules = {path: m for path, m in made.modules.items() if m.parameters or m.macs != 0}
    made.parameters = sum(m.parameters for m in made.modules.values())
    made.macs = sum((m.macs for m in made.modules.values()), start=0)
    made.activation_bytes, made.unshared_bytes = peak_bytes(graph), peak_bytes(graph, in_place=False)
    made.uncounted = sorted(uncounted)
    return made


def _core(kind: str) -> bool:
    """Whether an op is one of this package, all of which are counted or multiply nothing that counts."""
    return definition(kind).meaning.__module__.startswith(f"{__package__}.ops.")


def _integer(op: Op) -> bool:
    """Whether an op multiplies integers: its first two tensors are quantized, the first perhaps while it runs."""
    tensors = [v for v in op.operands if v is not None][:2]
    quantized = [v.type.quant is not None for v in tensors]
    if op.attrs.get("dynamic"):
        quantized[0] = True
    return all(quantized)

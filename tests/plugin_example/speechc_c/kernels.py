"""How each op becomes C: a table of functions `kernel(c, op, *results, *operands)`, `c` being the writer."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from speechc.ir.graph import Op


@dataclass(frozen=True)
class Kernel:
    """`build` writes the op; `refuse(op)` says why a form of it cannot be written, or gives something false."""

    build: Callable
    refuse: Callable[[Op], str | None]


KERNELS: dict[str, Kernel] = {}


def kernel(*kinds: str, refuse: Callable[[Op], str | None] = lambda op: None):
    """Register the kernel of some kinds of op."""

    def register(build: Callable) -> Callable:
        KERNELS.update(dict.fromkeys(kinds, Kernel(build, refuse)))
        return build

    return register


# -- one element at a time -----------------------------------------------------------------------------------------
POINTWISE = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "neg": "-{0}",
    "minimum": "{0} < {1} ? {0} : {1}", "maximum": "{0} > {1} ? {0} : {1}", "where": "{0} ? {1} : {2}",
    "equal": "{0} == {1}", "less": "{0} < {1}", "less_equal": "{0} <= {1}",
    "logical_and": "{0} && {1}", "logical_or": "{0} || {1}", "logical_not": "!{0}",
    "relu": "{0} > 0 ? {0} : 0", "tanh": "tanhf({0})", "sigmoid": "sigmoid({0})", "silu": "{0} * sigmoid({0})",
    "exp": "expf({0})", "log": "logf({0})", "sqrt": "sqrtf({0})", "sin": "sinf({0})",
    "snake": "{0} + sinf({1} * {0}) * sinf({1} * {0}) / {1}",
    "expand": "{0}", "read": "{0}",
}  # fmt: skip


@kernel(*POINTWISE)
def _(c, op, y, *operands):
    c.loops(y, lambda *i: f"{c.at(y, i)} = {POINTWISE[op.kind].format(*(c.at(v, i) for v in operands))}")


@kernel("floor_div", refuse=lambda op: op.result.type.is_float and "of floats")
def _(c, op, y, a, b):
    c.loops(y, lambda *i: f"{c.at(y, i)} = floordiv({c.at(a, i)}, {c.at(b, i)})")


@kernel("cast", refuse=lambda op: op.attrs["dtype"] == "bool" and "numbers as truth")
def _(c, op, y, x):
    c.loops(y, lambda *i: f"{c.at(y, i)} = {c.at(x, i)}")


# -- elements that move --------------------------------------------------------------------------------------------
def shifted(i, axis: int, by: str) -> list[str]:
    """The index `i`, `by` further along `axis`."""
    return [f"{by} + {k}" if n == axis else k for n, k in enumerate(i)]


@kernel("reshape", "retime")
def _(c, op, y, x):
    c.names[id(y)] = c.name(x)  # the same elements in the same order


@kernel("transpose")
def _(c, op, y, x):
    c.loops(y, lambda *i: f"{c.at(y, i)} = {c.at(x, [i[op.attrs['perm'].index(k)] for k in range(len(i))])}")


@kernel("slice")
def _(c, op, y, x):
    axis, start, step = op.attrs["axis"], c.size(op.attrs["start"]), op.attrs["step"]
    picked = lambda i: [f"{start} + {step} * {k}" if n == axis else k for n, k in enumerate(i)]
    c.loops(y, lambda *i: f"{c.at(y, i)} = {c.at(x, picked(i))}")


@kernel("concat")
def _(c, op, y, *xs):
    axis, before = op.attrs["axis"], 0
    for x in xs:
        c.loops(x, lambda *i: f"{c.at(y, shifted(i, axis, c.size(before)))} = {c.at(x, i)}")  # noqa: B023
        before = before + x.type.sizes[axis]


@kernel("history")
def _(c, op, y, x, state):
    KERNELS["concat"].build(c, op, y, state, x)
    axis, chunk = op.attrs["axis"], c.size(x.type.sizes[op.attrs["axis"]])
    c.at_the_end.append(lambda: c.loops(state, lambda *i: f"{c.at(state, i)} = {c.at(y, shifted(i, axis, chunk))}"))


@kernel("write")
def _(c, op, state, value):
    c.at_the_end.append(lambda: c.copy(c.name(state), value))


@kernel("pad", refuse=lambda op: op.attrs["mode"] != "constant" and f"padding by {op.attrs['mode']}")
def _(c, op, y, x):
    fill, fronts = c.literal(op.attrs["value"], x.type.dtype), [c.size(front) for front, _ in op.attrs["pads"]]
    c.loops(y, lambda *i: f"{c.at(y, i)} = {fill}")
    c.loops(x, lambda *i: f"{c.at(y, [f'{p} + {k}' for p, k in zip(fronts, i)])} = {c.at(x, i)}")


@kernel("iota")
def _(c, op, y):
    c.loops(y, lambda i: f"{c.at(y, [i])} = {i}")


# -- functions of kernels.c ----------------------------------------------------------------------------------------
@kernel("linear")
def _(c, op, y, x, w, b):
    outputs, inputs = w.type.sizes
    c.call("linear", math.prod(x.type.sizes[:-1]), inputs, outputs, x, w, b, y)


@kernel("conv", refuse=lambda op: (op.operands[0].type.rank != 3 or op.attrs["channel_last"]) and "[N, C, T] only")
def _(c, op, y, x, w, b):
    a, (outputs, each, taps), (batch, _, length) = op.attrs, w.type.sizes, x.type.sizes
    window = (taps, a["stride"][0], a["dilation"][0], a["pad"][0][0])
    c.call("conv", batch, a["groups"], each, length, outputs, y.type.sizes[2], *window, x, w, b, y)


@kernel("softmax")
def _(c, op, y, x):
    sizes, axis = x.type.sizes, op.attrs["axis"] % x.type.rank
    c.call("softmax", math.prod(sizes[:axis]), sizes[axis], math.prod(sizes[axis + 1 :]), x, y)


@kernel("gru", refuse=lambda op: op.attrs["reverse"] and "it runs backward")
def _(c, op, y, last, x, h, w, r, b, rb):
    c.call("gru", *x.type.sizes, h.type.sizes[1], x, h, w, r, b, rb, y, last)

"""Operators that make tensors from numbers and sizes: constants, ranges, masks."""

from __future__ import annotations

import math

import numpy as np

from ....ir.expr import Expr
from ....ir.graph import Value
from ....ir.types import DTYPES
from ..table import Context, aten


def filled(c: Context, number, shape, dtype: str) -> Value:
    """`number` everywhere."""
    value = c.value(number, dtype)
    return c.expand(value, shape)


@aten("full", "full_like", "new_full")
def _(c, *args, **_):
    # full(size, value), full_like(x, value), new_full(x, size, value): the number comes last.
    return filled(c, args[-1], c.shape(), c.dtype())


@aten("zeros", "zeros_like", "new_zeros", "empty.memory_format", "empty_like", "new_empty", "empty_strided",
      "new_empty_strided", "empty_permuted", "zero")  # fmt: skip
def _(c, *_, **__):
    return filled(c, 0, c.shape(), c.dtype())


@aten("ones", "ones_like", "new_ones")
def _(c, *_, **__):
    return filled(c, 1, c.shape(), c.dtype())


@aten("fill.Scalar", "fill.Tensor")
def _(c, x, value):
    value = c.value(value, x.type.dtype)
    return c.expand(c.reshape(value, ()) if value.type.rank else value, x.type.sizes)


@aten("scalar_tensor")
def _(c, value, **_):
    return c.value(value, c.dtype())


@aten("arange", "arange.start", "arange.start_step")
def _(c, *args, **_):
    start, step = (args[0] if len(args) > 1 else 0), (args[2] if len(args) > 2 else 1)
    (size,) = c.shape()
    return counting(c, size, start, step, c.dtype())


def counting(c: Context, size, start, step, dtype: str) -> Value:
    """start, start + step, …: `size` numbers."""
    if isinstance(size, int) and not isinstance(start, Expr) and not isinstance(step, Expr):
        return c.weight("arange", (np.arange(size) * step + start).astype(DTYPES[dtype]))
    whole = isinstance(start, (int, Expr)) and isinstance(step, (int, Expr))
    x = c.b.iota(size=size) if whole else c.cast(c.b.iota(size=size), dtype)
    if step != 1:
        x = c.b.mul(x, c.value(step, x.type.dtype))
    if start != 0:
        x = c.b.add(x, c.value(start, x.type.dtype))
    return c.cast(x, dtype)


@aten("linspace")
def _(c, start, end, steps, **_):
    if not isinstance(steps, int):
        raise c.no("makes a number of points that varies")
    return c.weight("linspace", np.linspace(start, end, steps).astype(DTYPES[c.dtype()]))


@aten("eye", "eye.m")
def _(c, *_, **__):
    rows, columns = _grid(c, c.shape())
    return c.cast(c.b.equal(rows, columns), c.dtype())


def _grid(c: Context, sizes) -> tuple[Value, Value]:
    """Row numbers [R, 1] and column numbers [1, C]."""
    rows, columns = sizes
    return (
        c.reshape(c.b.iota(size=rows), (rows, 1)),
        c.reshape(c.b.iota(size=columns), (1, columns)),
    )


def _triangle(upper: bool):
    def build(c, x, diagonal=0):
        rows, columns = _grid(c, x.type.sizes[-2:])
        limit = c.b.add(rows, c.value(diagonal, "i64")) if diagonal != 0 else rows
        kept = c.b.less_equal(limit, columns) if upper else c.b.less_equal(columns, limit)
        return c.b.where(kept, x, c.b.const(0, x.type.dtype))

    return build


aten("triu")(_triangle(True))
aten("tril")(_triangle(False))


def _window(formula):
    def build(c, length, *args, **_):
        numbers = [a for a in args if not isinstance(a, bool)]
        periodic = next((a for a in args if isinstance(a, bool)), True)
        n = np.arange(length) / (length if periodic else max(length - 1, 1))
        return c.weight("window", np.asarray(formula(n, *numbers)).astype(DTYPES[c.dtype()]))

    return build


def _hamming(n, alpha=0.54, beta=0.46):
    return alpha - beta * np.cos(2 * math.pi * n)


def _blackman(n):
    return 0.42 - 0.5 * np.cos(2 * math.pi * n) + 0.08 * np.cos(4 * math.pi * n)


aten("hann_window", "hann_window.periodic")(_window(lambda n: 0.5 - 0.5 * np.cos(2 * math.pi * n)))
aten(
    "hamming_window", "hamming_window.periodic", "hamming_window.periodic_alpha", "hamming_window.periodic_alpha_beta"
)(_window(_hamming))
aten("blackman_window", "blackman_window.periodic")(_window(_blackman))
aten("bartlett_window", "bartlett_window.periodic")(_window(lambda n: 1 - np.abs(2 * n - 1)))

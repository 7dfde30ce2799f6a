"""Complex numbers as pairs of real values."""

from __future__ import annotations

from ....ir.graph import Value
from ..table import Complex, Context, on_complex


def parts(c: Context, x) -> Complex:
    """A complex value, from one or from a real value or number."""
    if isinstance(x, Complex):
        return x
    if isinstance(x, complex):
        return Complex(c.value(x.real, c.dtype()), c.value(x.imag, c.dtype()))
    x = c.value(x, c.dtype())
    return Complex(x, c.b.const(0.0, x.type.dtype))


@on_complex("abs")
def _(c, x):
    return c.b.sqrt(squared(c, x))


def squared(c: Context, x: Complex) -> Value:
    """|x|²."""
    return c.b.add(c.b.mul(x.real, x.real), c.b.mul(x.imag, x.imag))


@on_complex("view_as_real", "view_as_real_copy")
def _(c, x):
    return c.concat([c.unsqueezed(v, -1) for v in (x.real, x.imag)], x.real.type.rank)


@on_complex("view_as_complex", "view_as_complex_copy")
def _(c, x):
    axis, shape = x.type.rank - 1, x.type.sizes[:-1]
    return Complex(*(c.reshape(c.part(x, axis, i, i + 1), shape) for i in range(2)))


@on_complex("real")
def _(c, x):
    return x.real if isinstance(x, Complex) else x


@on_complex("imag")
def _(c, x):
    return x.imag


@on_complex("complex")
def _(c, real, imag):
    return Complex(real, imag)


@on_complex("polar")
def _(c, size, angle):
    return Complex(c.b.mul(size, c.b.cos(angle)), c.b.mul(size, c.b.sin(angle)))


@on_complex("conj", "_conj", "conj_physical", "_conj_physical")
def _(c, x):
    return Complex(x.real, c.b.neg(x.imag)) if isinstance(x, Complex) else x


@on_complex("resolve_conj", "resolve_neg")
def _(c, x):
    return x


@on_complex("neg")
def _(c, x):
    return Complex(c.b.neg(x.real), c.b.neg(x.imag))


@on_complex("add.Tensor", "add.Scalar")
def _(c, a, b, alpha=1):
    a, b = parts(c, a), parts(c, b)
    return Complex(c.b.add(a.real, _scaled(c, b.real, alpha)), c.b.add(a.imag, _scaled(c, b.imag, alpha)))


@on_complex("sub.Tensor", "sub.Scalar")
def _(c, a, b, alpha=1):
    a, b = parts(c, a), parts(c, b)
    return Complex(c.b.sub(a.real, _scaled(c, b.real, alpha)), c.b.sub(a.imag, _scaled(c, b.imag, alpha)))


def _scaled(c: Context, x: Value, factor) -> Value:
    return x if factor == 1 else c.b.mul(x, c.b.const(factor, x.type.dtype))


@on_complex("mul.Tensor", "mul.Scalar")
def _(c, a, b):
    if not isinstance(a, Complex) and not isinstance(a, complex):
        a, b = b, a
    if not isinstance(b, (Complex, complex)):
        factor = c.value(b, a.real.type.dtype)
        return Complex(c.b.mul(a.real, factor), c.b.mul(a.imag, factor))
    return _product(c, parts(c, a), parts(c, b))


def _product(c: Context, a: Complex, b: Complex) -> Complex:
    real = c.b.sub(c.b.mul(a.real, b.real), c.b.mul(a.imag, b.imag))
    return Complex(real, c.b.add(c.b.mul(a.real, b.imag), c.b.mul(a.imag, b.real)))


@on_complex("div.Tensor", "div.Scalar")
def _(c, a, b):
    if not isinstance(b, (Complex, complex)):
        factor = c.b.reciprocal(c.value(b, c.dtype()))
        return Complex(c.b.mul(a.real, factor), c.b.mul(a.imag, factor))
    b = parts(c, b)
    scale = c.b.reciprocal(squared(c, b))
    turned = _product(c, parts(c, a), Complex(b.real, c.b.neg(b.imag)))
    return Complex(c.b.mul(turned.real, scale), c.b.mul(turned.imag, scale))


@on_complex("exp")
def _(c, x):
    size = c.b.exp(x.real)
    return Complex(c.b.mul(size, c.b.cos(x.imag)), c.b.mul(size, c.b.sin(x.imag)))


@on_complex("cat", "stack")
def _(c, xs, dim=0):
    xs = [parts(c, x) for x in xs]
    rank = xs[0].real.type.rank
    if "stack" in str(c.node.target):
        axis = dim % (rank + 1)
        xs = [Complex(c.unsqueezed(x.real, axis), c.unsqueezed(x.imag, axis)) for x in xs]
    else:
        axis = dim % rank
    return Complex(c.concat([x.real for x in xs], axis), c.concat([x.imag for x in xs], axis))


@on_complex("matmul", "bmm", "mm")
def _(c, a, b):
    from .linear import product

    a, b = parts(c, a), parts(c, b)
    real = c.b.sub(product(c, a.real, b.real), product(c, a.imag, b.imag))
    return Complex(real, c.b.add(product(c, a.real, b.imag), product(c, a.imag, b.real)))


@on_complex("_to_copy", "to.dtype")
def _(c, x, *_, **__):
    return parts(c, x)

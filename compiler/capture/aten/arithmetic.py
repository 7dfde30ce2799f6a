"""Operators of several operands, element by element: arithmetic, comparison, choice, logic."""

from __future__ import annotations

from ....ir.graph import Value
from ..table import Context, aten
from .elementwise import bounded, scaled


def _typed(c: Context, *operands) -> tuple[Value, ...]:
    """The operands in the result's element type."""
    dtype = c.dtype()
    return tuple(c.value(x, dtype) for x in operands)


@aten("add.Tensor", "add.Scalar")
def _(c, a, b, alpha=1):
    a, b = _typed(c, a, b)
    return c.b.add(a, scaled(c, b, alpha)) if c.dtype() != "bool" else c.b.logical_or(a, b)


@aten("sub.Tensor", "sub.Scalar")
def _(c, a, b, alpha=1):
    a, b = _typed(c, a, b)
    return c.b.sub(a, scaled(c, b, alpha))


@aten("rsub.Tensor", "rsub.Scalar")
def _(c, a, b, alpha=1):
    a, b = _typed(c, a, b)
    return c.b.sub(b, scaled(c, a, alpha))


@aten("mul.Tensor", "mul.Scalar")
def _(c, a, b):
    a, b = _typed(c, a, b)
    return c.b.mul(a, b) if c.dtype() != "bool" else c.b.logical_and(a, b)


@aten("div.Tensor", "div.Scalar", "true_divide.Tensor")
def _(c, a, b):
    return c.b.div(*_typed(c, a, b))


@aten("div.Tensor_mode", "div.Scalar_mode")
def _(c, a, b, rounding_mode=None):
    a, b = _typed(c, a, b)
    if rounding_mode is None:
        return c.b.div(a, b)
    if rounding_mode == "floor":
        return c.b.floor_div(a, b) if not a.type.is_float else c.b.floor(c.b.div(a, b))
    if not a.type.is_float:
        sign = c.b.mul(c.b.sign(a), c.b.sign(b))
        return c.b.mul(sign, c.b.floor_div(c.b.abs(a), c.b.abs(b)))
    quotient = c.b.div(a, b)
    return c.b.mul(c.b.sign(quotient), c.b.floor(c.b.abs(quotient)))


@aten("floor_divide", "floor_divide.Scalar")
def _(c, a, b):
    a, b = _typed(c, a, b)
    return c.b.floor_div(a, b) if not a.type.is_float else c.b.floor(c.b.div(a, b))


@aten("remainder.Tensor", "remainder.Scalar")
def _(c, a, b):
    return c.b.mod(*_typed(c, a, b))


@aten("fmod.Tensor", "fmod.Scalar")
def _(c, a, b):
    a, b = _typed(c, a, b)
    return c.b.mul(c.b.sign(a), c.b.mod(c.b.abs(a), c.b.abs(b)))


@aten("pow.Tensor_Scalar")
def _(c, x, exponent):
    x = c.cast(x, c.dtype())
    special = {2: lambda: c.b.mul(x, x), 1: lambda: x}
    if x.type.is_float:
        special |= {
            0.5: lambda: c.b.sqrt(x), -0.5: lambda: c.b.rsqrt(x), -1: lambda: c.b.reciprocal(x),
            3: lambda: c.b.mul(c.b.mul(x, x), x),
        }  # fmt: skip
    return special[exponent]() if exponent in special else c.b.pow(x, c.value(exponent, x.type.dtype))


@aten("pow.Tensor_Tensor", "pow.Scalar")
def _(c, a, b):
    return c.b.pow(*_typed(c, a, b))


@aten("maximum", "max.other", "fmax")
def _(c, a, b):
    return c.b.maximum(*_typed(c, a, b))


@aten("minimum", "min.other", "fmin")
def _(c, a, b):
    return c.b.minimum(*_typed(c, a, b))


@aten("clamp", "clamp.Tensor", "clip", "clip.Tensor")
def _(c, x, min=None, max=None):
    return bounded(c, c.cast(x, c.dtype()), min, max)


@aten("clamp_min", "clamp_min.Tensor")
def _(c, x, min):
    return bounded(c, c.cast(x, c.dtype()), min, None)


@aten("clamp_max", "clamp_max.Tensor")
def _(c, x, max):
    return bounded(c, c.cast(x, c.dtype()), None, max)


@aten("addcmul")
def _(c, x, a, b, *, value=1):
    x, a, b = _typed(c, x, a, b)
    return c.b.add(x, scaled(c, c.b.mul(a, b), value))


@aten("addcdiv")
def _(c, x, a, b, *, value=1):
    x, a, b = _typed(c, x, a, b)
    return c.b.add(x, scaled(c, c.b.div(a, b), value))


@aten("lerp.Scalar", "lerp.Tensor")
def _(c, a, b, weight):
    a, b, weight = _typed(c, a, b, weight)
    return c.b.add(a, c.b.mul(weight, c.b.sub(b, a)))


# -- comparison ----------------------------------------------------------------------------------------------------
def _comparison(kind: str, swap: bool, negate: bool):
    def build(c, a, b):
        a, b = c.promoted(a, b)
        result = c.b.emit(kind, (b, a) if swap else (a, b))
        return c.b.logical_not(result) if negate else result

    return build


for _name, *_how in (
    ("eq", "equal", False, False), ("ne", "equal", False, True), ("lt", "less", False, False),
    ("gt", "less", True, False), ("le", "less_equal", False, False), ("ge", "less_equal", True, False),
):  # fmt: skip
    aten(f"{_name}.Tensor", f"{_name}.Scalar")(_comparison(*_how))


@aten("diff")
def _(c, x, n=1, dim=-1, prepend=None, append=None):
    axis = c.axis(x, dim)
    x = c.concat([c.cast(v, c.dtype()) for v in (prepend, x, append) if v is not None], axis)
    for _ in range(n):
        size = x.type.sizes[axis]
        after, before = c.part(x, axis, 1, size), c.part(x, axis, 0, size - 1)
        x = c.b.sub(after, before) if c.dtype() != "bool" else c.b.logical_not(c.b.equal(after, before))
    return x


# -- logic ---------------------------------------------------------------------------------------------------------
def _logic(kind: str):
    def build(c, a, b):
        if ("bitwise" in str(c.node.target) or "__" in str(c.node.target)) and c.dtype() != "bool":
            raise c.no("works on bits of integers", "compute with booleans, or with + - * // instead")
        return c.b.emit(kind, (c.value(a, "bool"), c.value(b, "bool")))

    return build


aten("logical_and", "bitwise_and.Tensor", "bitwise_and.Scalar", "__and__.Tensor", "__and__.Scalar")(
    _logic("logical_and")
)
aten("logical_or", "bitwise_or.Tensor", "bitwise_or.Scalar", "__or__.Tensor", "__or__.Scalar")(_logic("logical_or"))


@aten("logical_xor", "bitwise_xor.Tensor", "bitwise_xor.Scalar", "__xor__.Tensor")
def _(c, a, b):
    if c.dtype() != "bool":
        raise c.no("works on bits of integers")
    return c.b.logical_not(c.b.equal(c.value(a, "bool"), c.value(b, "bool")))


@aten("logical_not", "bitwise_not")
def _(c, x):
    if c.dtype() != "bool":
        raise c.no("works on bits of integers")
    return c.b.logical_not(c.cast(x, "bool"))


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _(c, condition, a, b):
    return c.b.where(c.cast(condition, "bool"), *_typed(c, a, b))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def _(c, x, mask, value):
    value = c.value(value, c.dtype())
    if value.type.rank:
        value = c.reshape(value, ())
    return c.b.where(mask, value, c.cast(x, c.dtype()))

"""Pointwise ops."""

from __future__ import annotations

from .lower import lower

UNARY = ("exp", "sqrt", "sin", "cos", "tanh", "sigmoid", "silu", "erf", "softplus", "floor", "ceil", "round", "abs")
BINARY = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "real_div", "minimum": "minimum", "maximum": "maximum",
    "mod": "mod", "floor_div": "floor_div", "equal": "equal", "less": "less", "less_equal": "less_equal",
    "logical_and": "logical_and", "logical_or": "logical_or",
}  # fmt: skip


@lower(*UNARY, "sign", "logical_not")
def _(e, kind, x):
    return e.op(kind, x=x)


@lower("neg")
def _(e, x):
    return e.op("mul", x=x, y=e.number(-1, x))


@lower("log")
def _(e, x):
    """The default of MIL would be log(x + 1e-45): finite at zero."""
    return e.op("log", x=x, epsilon=e.number(0, x))


@lower("rsqrt")
def _(e, x):
    """MIL's own adds 1e-12 to x."""
    return e.op("real_div", x=e.number(1, x), y=e.op("sqrt", x=x))


@lower("reciprocal")
def _(e, x):
    """MIL's own adds 1e-4 to x."""
    return e.op("real_div", x=e.number(1, x), y=x)


@lower("relu")
def _(e, x):
    return e.op("relu", x=x) if x.type.is_float else e.op("maximum", x=x, y=e.number(0, x))


@lower("gelu")
def _(e, x, *, tanh):
    return e.op("gelu", x=x, mode="TANH_APPROXIMATION" if tanh else "EXACT")


@lower("leaky_relu")
def _(e, x, *, slope):
    return e.op("leaky_relu", x=x, alpha=e.number(slope, x))


@lower("elu")
def _(e, x, *, alpha):
    return e.op("elu", x=x, alpha=e.number(alpha, x))


@lower(*BINARY)
def _(e, kind, a, b):
    if a.type.dtype == "bool" and not kind.startswith("logical"):
        a, b = (e.cast(e.value(v), "bool", "i32") for v in (a, b))
    return e.op(BINARY[kind], x=a, y=b)


@lower("pow")
def _(e, a, b):
    """A square is a product; whole numbers go through float32, exact up to 2^24."""
    if b.kind == "const" and float(b.payload) == 2:
        return e.op("mul", x=a, y=a)
    if a.type.is_float:
        return e.op("pow", x=a, y=b)
    raised = e.op("pow", x=e.op("cast", x=a, dtype="fp32"), y=e.op("cast", x=b, dtype="fp32"))
    return e.op("cast", x=e.op("round", x=raised), dtype="int32")


@lower("where")
def _(e, condition, a, b):
    """Core ML's select does not spread its operands: all three get the size of the result."""
    sizes, dtype = e.current.result.type.sizes, e.real_of(e.current.result)
    c = e.expand(condition, condition.type.sizes, sizes, "bool")
    return e.op("select", cond=c, **{n: e.expand(v, v.type.sizes, sizes, dtype) for n, v in (("a", a), ("b", b))})


@lower("cast", since=lambda op: 17 if {op.operands[0].type.dtype, op.result.type.dtype} & {"i8", "u8"} else 15)
def _(e, x, *, dtype):
    """To bool: whatever is not zero. A weight kept in float16 is widened as the file is loaded."""
    if (x.kind, x.type.dtype, dtype) == ("weight", "f16", "f32"):
        return None  # `constants.constant` makes it where it is read
    old = e.real_of(x)
    if dtype == "bool" and old != "bool":
        return e.op("not_equal", x=x, y=e.number(0, x))
    return e.op("identity", x=x) if old == dtype and x.kind == "const" else e.cast(e.value(x), old, dtype)

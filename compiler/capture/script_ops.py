"""What the operators of TorchScript mean in Python: numbers, lists, texts, and the call of tensor operators.

Sizes may be symbolic, so everything that a script does with numbers is done by Python's own operators.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from ...ir.errors import CaptureError
from . import script_fused

DTYPES = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64,
    torch.complex32, torch.complex64, torch.complex128, torch.bool, torch.qint8, torch.quint8, torch.qint32,
    torch.bfloat16,
)  # fmt: skip
LAYOUTS = (torch.strided, torch.sparse_coo, torch.sparse_csr)
FORMATS = (torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)


@dataclass(frozen=True)
class Number:
    """A size that a trace holds as a tensor (`prim::NumToTensor`): arithmetic on it stays arithmetic on sizes."""

    value: Any


def _slice(x, start=None, stop=None, step=1):
    return x[start:stop:step]


def _set_item(x, key, value):
    x[key] = value
    return x


def _then(method: str) -> Callable:
    """A list's or dictionary's method whose operator gives the container back."""

    def run(x, *args):
        getattr(x, method)(*args)
        return x

    return run


def _whole(x):
    if isinstance(x, Number):
        return x.value
    return x.item() if isinstance(x, torch.Tensor) else int(x)


def _real(x):
    x = x.value if isinstance(x, Number) else x
    return x.item() if isinstance(x, torch.Tensor) else torch.sym_float(x) if isinstance(x, torch.SymInt) else float(x)


def _add(a, b, alpha=1):
    return a + b if isinstance(a, (list, str)) or alpha == 1 else a + b * alpha


def _sub(a, b, alpha=1):
    return a - b if alpha == 1 else a - b * alpha


def _divide(a, b, rounding_mode=None):
    if rounding_mode is None:
        return a / b
    return a // b if rounding_mode == "floor" or (a >= 0) == (b > 0) else -(-a // b)


def _remainder(a, b):
    return a % b


def _extreme(function):
    def run(a, b=None):
        return function(a) if b is None else function(a, b)

    return run


def _size(x, axis=None):
    return list(x.shape) if axis is None else x.shape[axis]


def _to(x, dtype=None, device=None):
    return x if dtype is None else x.to(DTYPES[dtype])


def _derive(index, start, step):
    return start + index * step


def _range_length(start, stop, step):
    return (stop - start + step - 1) // step if step > 0 else (start - stop - step - 1) // -step


def _unwrap(x):
    if x is None:
        raise RuntimeError("an optional value is None")
    return x


def _tensor(data, dtype=None, device=None, requires_grad=False):
    kind = None if dtype is None else DTYPES[dtype]
    return torch.tensor(data, dtype=kind)


def _as_tensor(data, dtype=None, device=None):
    if isinstance(data, torch.Tensor):
        return _to(data, dtype)
    return _tensor(data, dtype)


def _max_pool(x, *args):
    return torch.max_pool1d(x, *args)  # looked up at the call: capture puts its own in its place


def _recurrent(name: str) -> Callable:
    return lambda *args: getattr(torch._VF, name)(*args)


# On values that are not tensors.
PLAIN: dict[str, Callable] = {
    "aten::add": _add, "aten::sub": _sub, "aten::mul": operator.mul, "aten::div": _divide,
    "aten::floordiv": operator.floordiv, "aten::floor_divide": operator.floordiv, "aten::remainder": _remainder,
    "aten::pow": operator.pow, "aten::neg": operator.neg, "aten::abs": abs, "prim::abs": abs,
    "aten::eq": operator.eq, "aten::ne": operator.ne, "aten::lt": operator.lt, "aten::le": operator.le,
    "aten::gt": operator.gt, "aten::ge": operator.ge, "aten::__and__": operator.and_, "aten::__or__": operator.or_,
    "aten::__xor__": operator.xor, "aten::__lshift__": operator.lshift, "aten::__rshift__": operator.rshift,
    "aten::floor": math.floor, "aten::ceil": math.ceil, "aten::round": round, "aten::sqrt": math.sqrt,
    "aten::exp": math.exp, "aten::log": math.log, "aten::log2": math.log2, "aten::log10": math.log10,
    "aten::sin": math.sin, "aten::cos": math.cos, "aten::tan": math.tan, "aten::tanh": math.tanh,
    "aten::mathremainder": math.remainder, "aten::fmod": math.fmod, "aten::gcd": math.gcd,
    "prim::max": _extreme(max), "prim::min": _extreme(min), "aten::sum": sum, "aten::all": all, "aten::any": any,
    "aten::__getitem__": operator.getitem, "aten::slice": _slice, "aten::_set_item": _set_item,
    "aten::append": _then("append"), "aten::extend": _then("extend"), "aten::insert": _then("insert"),
    "aten::reverse": _then("reverse"), "aten::clear": _then("clear"), "aten::pop": lambda x, *a: x.pop(*a),
    "aten::copy": lambda x: x.copy(), "aten::list": list, "aten::dict": dict, "aten::index": lambda x, v: x.index(v),
    "aten::count": lambda x, v: x.count(v), "aten::sorted": sorted,
    "aten::keys": lambda x: list(x.keys()), "aten::values": lambda x: list(x.values()),
    "aten::items": lambda x: list(x.items()), "aten::get": lambda x, *a: x.get(*a), "aten::update": _then("update"),
    "aten::format": lambda text, *a: text.format(*a), "aten::percentFormat": lambda text, *a: text % a,
    "aten::str": str, "aten::join": lambda text, parts: text.join(parts),
    "aten::lower": str.lower, "aten::upper": str.upper, "aten::strip": lambda x, *a: x.strip(*a),
    "aten::split": lambda x, *a: x.split(*[p for p in a if p is not None]),
    "aten::startswith": lambda x, p, *_: x.startswith(p), "aten::endswith": lambda x, p, *_: x.endswith(p),
    "aten::replace": lambda x, a, b, *_: x.replace(a, b), "aten::find": lambda x, p, *_: x.find(p),
    "aten::__range_length": _range_length, "aten::__derive_index": _derive,
    "aten::Complex": complex,
}  # fmt: skip

# On anything; a name with an overload goes before one without.
ANY: dict[str, Callable] = {
    "aten::__not__": operator.not_, "aten::__is__": operator.is_, "aten::__isnot__": operator.is_not,
    "aten::__contains__": lambda x, v: v in x, "aten::len": len, "aten::len.Tensor": lambda x: x.shape[0],
    "aten::size": _size, "aten::dim": lambda x: x.dim(), "aten::numel": lambda x: x.numel(),
    "prim::shape": lambda x: list(x.shape), "aten::stride": lambda x, *a: x.stride(*a),
    "aten::Int": _whole, "aten::IntImplicit": _whole, "aten::item": _whole, "aten::ScalarImplicit": _whole,
    "aten::Float": _real, "aten::FloatImplicit": _real,
    "aten::Bool": lambda x: bool(x.value if isinstance(x, Number) else x),
    "aten::is_floating_point": lambda x: x.is_floating_point(), "aten::is_complex": lambda x: x.is_complex(),
    "aten::is_scripting": lambda: True, "aten::is_grad_enabled": lambda: True, "aten::requires_grad_": lambda x, *_: x,
    "prim::requires_grad": lambda x: False, "prim::is_cuda": lambda x: False, "prim::is_mps": lambda x: False,
    "prim::is_sparse": lambda x: False, "prim::is_nested": lambda x: False, "prim::is_quantized": lambda x: False,
    "prim::is_meta": lambda x: False, "prim::is_mkldnn": lambda x: False, "prim::is_xpu": lambda x: False,
    "prim::is_cpu": lambda x: True, "prim::device": lambda x: torch.device("cpu"), "prim::type": lambda x: "cpu",
    "aten::device": lambda *_: torch.device("cpu"), "prim::dtype": lambda x: DTYPES.index(x.dtype),
    "prim::layout": lambda x: 0, "prim::data": lambda x: x, "aten::detach": lambda x: x,
    "aten::warn": lambda *_: None, "prim::Print": lambda *_: None,
    "prim::unchecked_cast": lambda x: x, "prim::unchecked_unwrap_optional": lambda x: x,
    "aten::_unwrap_optional": _unwrap, "prim::NumToTensor": Number, "prim::Uninitialized": lambda: None,
    "prim::TupleConstruct": lambda *a: tuple(a), "prim::ListConstruct": lambda *a: list(a),
    "prim::DictConstruct": lambda *a: dict(zip(a[::2], a[1::2])), "prim::TupleIndex": operator.getitem,
    "aten::to.prim_dtype": lambda x, dtype=None, *_: _to(x, dtype),
    "aten::to.prim_Device": lambda x, device, dtype=None, *_: _to(x, dtype),
    "aten::to.prim_other": lambda x, *_: x, "aten::cpu": lambda x: x,
    "aten::tensor": _tensor, "aten::as_tensor": _as_tensor, "aten::max_pool1d": _max_pool,
    **{f"aten::{n}.input": _recurrent(n) for n in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{f"aten::{n}.data": _recurrent(n) for n in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    "aten::_native_multi_head_attention": script_fused.attention,
    "aten::_transformer_encoder_layer_fwd": script_fused.encoder_layer,
    "aten::add.t": operator.add, "aten::add_.t": _then("extend"),
}  # fmt: skip


def call(kind: str, schema: str, args: list) -> Any:
    """The result of operator `kind` (`aten::conv1d`) of schema `schema` on `args`."""
    name = kind if not schema else _full_name(schema)
    found = ANY.get(name) or ANY.get(kind)
    if found is not None:
        return found(*args)
    if any(isinstance(a, Number) for a in args):
        if kind in PLAIN and not any(_is_data(a) for a in args):
            return Number(PLAIN[kind](*(_number(a) for a in args)))
        args = [torch.scalar_tensor(a.value, dtype=torch.int64) if isinstance(a, Number) else a for a in args]
    if kind in PLAIN and not (schema and _takes_tensor(schema)):
        return PLAIN[kind](*args)
    return tensor_operator(kind, schema)(*args)


def known(kind: str, schema: str) -> bool:
    """Whether `call` has a meaning for an operator."""
    name = kind if not schema else _full_name(schema)
    return name in ANY or kind in ANY or kind in PLAIN or (bool(schema) and _dispatched(schema) is not None)


def _is_data(a: Any) -> bool:
    """Whether an operand is more than a number known by now."""
    return isinstance(a, torch.Tensor) and (type(a) is not torch.Tensor or a.ndim > 0)


def _number(a: Any) -> Any:
    return a.value if isinstance(a, Number) else a.item() if isinstance(a, torch.Tensor) else a


@cache
def _parsed(schema: str) -> torch._C.FunctionSchema:
    return torch._C.parse_schema(schema)


@cache
def _full_name(schema: str) -> str:
    parsed = _parsed(schema)
    return f"{parsed.name}.{parsed.overload_name}" if parsed.overload_name else parsed.name


@cache
def _takes_tensor(schema: str) -> bool:
    """Whether an operator is one on tensors (a list of tensors is a list: `aten::append.t`)."""
    return any(str(a.type) in ("Tensor", "Optional[Tensor]") for a in _parsed(schema).arguments)


@cache
def _dispatched(schema: str) -> torch._ops.OpOverload | None:
    """The operator of torch's dispatcher, if there is one."""
    parsed = _parsed(schema)
    if not torch._C._dispatch_has_kernel(_full_name(schema)):
        return None
    packet = getattr(torch.ops.aten, parsed.name.partition("::")[2], None)
    return getattr(packet, parsed.overload_name or "default", None)


@cache
def tensor_operator(kind: str, schema: str) -> Callable:
    """A function of positional arguments as a script gives them: element types as numbers, any device."""
    found = _dispatched(schema)
    if found is None:
        raise CaptureError(
            "SC420", f"1 operator is not supported: {kind}", hints=["write the module with other operators"]
        )
    arguments = found._schema.arguments
    convert = [_CONVERT.get(str(a.real_type).replace("Optional[", "").rstrip("]")) for a in arguments]

    def run(*args):
        args = [f(x) if f is not None and x is not None else x for f, x in zip(convert, args)]
        named = {a.name: x for a, x in zip(arguments, args) if a.kwarg_only}
        return found(*(x for a, x in zip(arguments, args) if not a.kwarg_only), **named)

    return run


def _pick(table: tuple) -> Callable:
    return lambda x: table[x] if isinstance(x, int) else x


_CONVERT: dict[str, Callable] = {
    "ScalarType": _pick(DTYPES),
    "Layout": _pick(LAYOUTS),
    "MemoryFormat": _pick(FORMATS),
    "Device": lambda x: torch.device("cpu"),
}

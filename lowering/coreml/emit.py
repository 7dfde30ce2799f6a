"""A graph as a MIL function: walks the ops, asks each one's lowering for operations, keeps names and constants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from ...ir.errors import IRError
from ...ir.expr import Expr, Size, evaluate
from ...ir.graph import Graph, Op, Value
from .constants import NUMPY_TYPE, behind, constant, narrowed
from .lower import load_all
from .names import PlainNames
from .reals import real_types
from .sdk import sdk
from .sizes import Sizes

# What values are inside. Codes of 8 bits are held as the real numbers that they stand for (see `ops_quant`).
MIL_TYPE = {"f32": "fp32", "f16": "fp16", "i32": "int32", "i64": "int32", "bool": "bool", "i8": "int8", "u8": "uint8"}


class Emitter:
    """The MIL function being built. Lowerings call `op` with IR values, MIL values, arrays or numbers as inputs."""

    def __init__(self, graph: Graph, release: int, most: Mapping[str, int] | None = None):
        sdk()
        from coremltools.converters.mil.mil import Builder, get_new_symbol, types

        self.mb, self.types, self._new_symbol = Builder, types, get_new_symbol
        self.graph, self.release, self.most = graph, release, most or {}
        self.inputs: dict[str, object] = {}  # what the function takes, by name
        self.table = load_all()
        self.reals = real_types(graph)
        self.names = PlainNames()
        self.sizes = Sizes(self)
        self.cache: dict = {}  # for lowerings: what several ops share, such as one mask
        self.written: dict[str, object] = {}  # by state: what it becomes
        self.place, self.looping = "", False
        self.current: Op | None = None
        self._values: dict[int, object] = {}
        self._ports: dict[str, object] = {}  # inputs as they come in
        self._symbols: dict[Expr, object] = {}

    # -- the graph -------------------------------------------------------------------------------------------------
    def walk(self) -> None:
        """Emit all ops, between what `bind` was told and what `value` gives."""
        for op in self.graph.ops:
            self.current, self.place = op, op.loc.path or op.kind
            attrs = dict(op.attrs)
            then = attrs.pop("then", None)
            made = self.table[op.kind].build(self, *op.operands, **attrs)
            if then:
                first, *rest = made if isinstance(made, tuple) else (made,)
                made = (self.op(then, x=first), *rest)
            for r, var in zip(op.results, made if isinstance(made, tuple) else (made,), strict=True):
                self._values[id(r)] = self._typed(var, r)
        self.current, self.place = None, ""

    def bind(self, v: Value, var, port=None) -> None:
        """`v` is `var` inside; `port` is the input itself, whose shape is asked for."""
        self._values[id(v)] = var
        self._ports[v.name] = var if port is None else port

    def port(self, v: Value):
        """An input as it comes in."""
        return self._ports[v.name]

    def symbol(self, size: Size):
        """A size as MIL's types have it: a number, or the symbol that stands for the expression."""
        if isinstance(size, int):
            return size
        if size not in self._symbols:
            self._symbols[size] = self._new_symbol()
        return self._symbols[size]

    def longest(self, size: Size) -> int:
        """What a size is at most."""
        return evaluate(size, self.most)

    def real_of(self, v: Value) -> str:
        """The element type that `v` has inside."""
        return self.reals.get(id(v), "f32") if v.type.quant is not None else v.type.dtype

    def _typed(self, var, r: Value):
        """`var` with the type that the graph says, after a look whether MIL found the same."""
        if var is None or not hasattr(var, "sym_type"):
            return var
        wanted = tuple(self.symbol(s) for s in r.type.sizes)
        found, dtype = tuple(var.shape), MIL_TYPE[self.real_of(r)]
        known = [(a, b) for a, b in zip(found, wanted) if isinstance(a, (int, np.integer)) and isinstance(b, int)]
        same = len(found) == len(wanted) and all(a == b for a, b in known)
        if not same or self.types.builtin_to_string(var.dtype) != dtype:
            what = f"{self.types.builtin_to_string(var.dtype)}{list(map(str, found))}"
            raise IRError(f"{r.op.kind} became {what} in MIL, its type is {r.type}", [str(r.op.loc)], code="SC315")
        if wanted and var.op is not None and var.val is None and found != wanted:
            var._sym_type = self.types.tensor(var.dtype, wanted)
        return var

    # -- values ----------------------------------------------------------------------------------------------------
    def value(self, v):
        """The MIL value (or numpy constant) of an IR value; others stay as they are."""
        if not isinstance(v, Value):
            return v
        if v.kind == "const":
            return narrowed(v.payload)[()]
        if behind(v) is not None:
            return constant(self, v)
        return self._values[id(v)]

    __call__ = value

    def op(self, kind: str, **inputs):
        """One operation at the current place; gives its result, or a tuple of them."""
        return self.named(f"{self.place}.{kind}", kind, **inputs)

    def named(self, name: str, kind: str, **inputs):
        """One operation called `name`, or that and a number."""
        given = {k: [self.value(v) for v in x] if isinstance(x, (list, tuple)) and k == "values" else self.value(x)
                 for k, x in inputs.items() if x is not None}  # fmt: skip
        return getattr(self.mb, kind)(name=self.names.claim(name), **given)

    @contextmanager
    def located(self, place: str) -> Iterator[None]:
        """Name the operations built inside after `place`."""
        self.place, old = place, self.place
        try:
            yield
        finally:
            self.place = old

    # -- what many lowerings need ----------------------------------------------------------------------------------
    def number(self, value: float, like: Value | str) -> np.generic:
        """A literal of the element type of `like`."""
        return NUMPY_TYPE[like if isinstance(like, str) else self.real_of(like)](value)

    def cast(self, x, old: str, new: str):
        """`x` of element type `old` as `new`."""
        return x if MIL_TYPE[old] == MIL_TYPE[new] else self.op("cast", x=x, dtype=MIL_TYPE[new])

    def reshape(self, x, old: Iterable[Size], new: Iterable[Size]):
        """`x` of sizes `old` as sizes `new`; literal but for one size, where that suffices."""
        old, new = tuple(old), tuple(new)
        if old == new:
            return self.value(x)
        free = [i for i, s in enumerate(new) if isinstance(s, Expr)]
        if len(free) <= 1:
            shape = np.array([-1 if i in free else s for i, s in enumerate(new)], np.int32)
            return self._squeezed(x, old) if not new else self.op("reshape", x=x, shape=shape)
        kept_old, kept_new = [s for s in old if s != 1], [s for s in new if s != 1]
        if kept_old == kept_new:  # only dimensions of size 1 come and go
            y = self._squeezed(x, old)
            axes = [i for i, s in enumerate(new) if s == 1]
            return self.op("expand_dims", x=y, axes=axes) if axes else y
        open_ = max(free, key=lambda i: len(str(new[i])))
        return self.op("reshape", x=x, shape=self.sizes.vector([-1 if i == open_ else s for i, s in enumerate(new)]))

    def _squeezed(self, x, sizes: tuple[Size, ...]):
        axes = [i for i, s in enumerate(sizes) if s == 1]
        return self.op("squeeze", x=x, axes=axes) if axes else self.value(x)

    def transpose(self, x, perm: Iterable[int]):
        """The dimensions in another order."""
        perm = [int(p) for p in perm]
        return self.value(x) if perm == sorted(perm) else self.op("transpose", x=x, perm=perm)

    def slice(self, x, sizes: Iterable[Size], axis: int, start: Size, stop: Size, step: int = 1):
        """Elements start, start + step, … below stop along `axis` of `x`, whose sizes are `sizes`.

        Bounds at a known distance from the end are counted from there, so that few are computed.
        """
        sizes = tuple(sizes)
        if start == 0 and stop == sizes[axis] and step == 1:
            return self.value(x)
        rank, size = len(sizes), sizes[axis]
        begin, end = _bound(start, size), _bound(stop, size)
        others = [i != axis for i in range(rank)]
        if isinstance(begin, int) and isinstance(end, (int, type(None))):
            where = [(int(begin) if i == axis else 0, int(end or 0) if i == axis else 0) for i in range(rank)]
            begins, ends = (np.array(b, np.int32) for b in zip(*where))
        else:
            begins = self.sizes.vector([start if i == axis else 0 for i in range(rank)])
            ends = self.sizes.vector([stop if i == axis else 0 for i in range(rank)])
        ends_open = [o or (i == axis and end is None) for i, o in enumerate(others)]
        return self.op(
            "slice_by_index", x=x, begin=begins, end=ends, stride=[step if i == axis else 1 for i in range(rank)],
            begin_mask=others, end_mask=ends_open,
        )  # fmt: skip

    def pad(self, x, dtype: str, pads, value: float = 0.0, mode: str = "constant"):
        """`x` of f16 or f32 with pads, sizes or numbers, for every axis; `mode` is constant, edge or reflect."""
        if not any(p != 0 for pair in pads for p in pair):
            return self.value(x)
        flat = [p for pair in pads for p in pair]
        literal = {"constant_val": self.number(value, dtype)} if mode == "constant" else {}
        mode = {"edge": "replicate"}.get(mode, mode)
        return self.op("pad", x=x, pad=self.sizes.vector(flat), mode=mode, **literal)

    def expand(self, x, old: Iterable[Size], new: Iterable[Size], dtype: str):
        """`x` of sizes `old`, repeated up to sizes `new`."""
        old, new = tuple(old), tuple(new)
        if not old:
            return self.op("fill", shape=self.sizes.vector(new), value=x) if _literal(x) else self._filled(x, new)
        full = (1,) * (len(new) - len(old)) + old
        x = self.reshape(x, old, full) if full != old else self.value(x)
        reps = [n if o == 1 and n != 1 else 1 for o, n in zip(full, new)]
        return x if all(r == 1 for r in reps) else self.op("tile", x=x, reps=self.sizes.vector(reps))

    def _filled(self, x, new: tuple[Size, ...]):
        x = self.value(x)
        if _literal(x):
            return self.op("fill", shape=self.sizes.vector(new), value=x)
        if not new:
            return x
        return self.op("tile", x=self.op("reshape", x=x, shape=[1] * len(new)), reps=self.sizes.vector(new))


def _literal(x) -> bool:
    return isinstance(x, (np.generic, int, float, bool))


def _bound(bound: Size, size: Size):
    """A slice bound as a literal: from the front, or negative from the end; None is the very end, else the size."""
    if isinstance(bound, int):
        return bound
    back = size - bound
    if isinstance(back, int) and back >= 0:
        return -back if back else None
    return bound

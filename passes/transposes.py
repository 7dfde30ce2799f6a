"""Move transposes down a graph, through ops that can work in either layout, until they cancel or end in a constant."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.expr import same
from ..ir.graph import Builder, Graph, Op, Value
from ..ir.types import Tensor
from .base import Context

Perm = tuple[int, ...]
MOVES: dict[str, Callable[[Op, Perm], tuple[dict, Perm] | None]] = {}
POINTWISE = (
    "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh", "sigmoid", "silu", "erf", "softplus", "floor",
    "ceil", "round", "neg", "abs", "sign", "relu", "gelu", "leaky_relu", "elu", "add", "sub", "mul", "div", "minimum",
    "maximum", "pow", "mod", "floor_div", "equal", "less", "less_equal", "logical_and", "logical_or", "logical_not",
    "where", "cast", "quantize", "dequantize",
)  # fmt: skip

ONE_OPERAND = ("batch_norm", "layer_norm", "rms_norm")  # the others are parameters along fixed dimensions


def settle(graph: Graph, context: Context, name: str) -> None:
    """Sink, merge and drop transposes until nothing changes. `name` is the pass that does it."""
    queue = {op: None for op in graph.ops}
    budget = 32 * (len(graph) + 16)
    while queue and budget:
        op = next(iter(queue))
        del queue[op]
        if op.graph is None:
            continue
        budget -= 1
        for step in (_merge, _permute_weight, _fold, _sink):
            touched = step(graph, op, context, name)
            if touched is not None:
                queue.update((o, None) for o in touched if o.graph is not None)
                break


def inverse(perm: Perm) -> Perm:
    return tuple(perm.index(i) for i in range(len(perm)))


def _transposed(v: Value | None) -> bool:
    return v is not None and v.op is not None and v.op.kind == "transpose"


def _outputs(graph: Graph, v: Value) -> bool:
    return any(o is v for o in graph.outputs)


def _drop(graph: Graph, op: Op, touched: list[Op]) -> None:
    """Erase `op` and what only it read."""
    if op.graph is None or any(r.users or _outputs(graph, r) for r in op.results):
        touched.append(op)
        return
    sources = {v.op for v in op.operands if v is not None and v.op is not None}
    graph.erase(op)
    for source in sources:
        _drop(graph, source, touched)


def _substitute(graph: Graph, op: Op, new: Value) -> list[Op]:
    touched = list(op.result.users)
    for axis, (found, wanted) in enumerate(zip(new.type.shape, op.result.type.shape)):
        # A time of one frame looks like any other dimension of size 1, and may have been put at another of them.
        if found.size == wanted.size == 1 and found.time != wanted.time:
            new = Builder(graph, new.op.loc if new.op else op.loc, before=op).retime(new, axis=axis, to=wanted)
    graph.replace(op.result, new)
    if new.op is not None:
        touched.append(new.op)
    _drop(graph, op, touched)
    return touched


def _merge(graph: Graph, op: Op, context: Context, name: str) -> list[Op] | None:
    """Two transposes in a row are one; one that changes nothing goes."""
    if op.kind != "transpose":
        return None
    x, perm = op.operands[0], op.attrs["perm"]
    if _transposed(x):
        perm = tuple(x.op.attrs["perm"][i] for i in perm)
        x = x.op.operands[0]
    elif list(perm) != sorted(perm):
        return None
    if not context.allow():
        return None
    b = Builder(graph, op.loc.through(name), before=op)
    return _substitute(graph, op, x if list(perm) == sorted(perm) else b.transpose(x, perm=perm))


def _fold(graph: Graph, op: Op, context: Context, name: str) -> list[Op] | None:
    """A transpose of a weight is another weight."""
    if op.kind != "transpose" or op.operands[0].kind != "weight" or not op.operands[0].known or not context.allow():
        return None
    b = Builder(graph, op.loc.through(name), before=op)
    return _substitute(graph, op, turned(b, op.operands[0], op.attrs["perm"]))


def turned(b: Builder, w: Value, perm: Perm) -> Value:
    """A weight with its dimensions in another order."""
    type = b.transpose(w, perm=perm).type
    b.graph.erase(next(iter(reversed(list(w.users)))))
    label = "".join(map(str, perm))
    return b.derived(f"{w.name}.{label}", f"transpose {label}", type, lambda a: a.transpose(perm), w)


def _permute_weight(graph: Graph, op: Op, context: Context, name: str) -> list[Op] | None:
    """linear(reshape(transpose(x))) that flattens the transposed features: the weight's columns move instead."""
    if op.kind != "linear" or not op.operands[1].known:
        return None
    x, w = op.operands[0], op.operands[1]
    if w.type.quant is not None and w.type.quant.axis == 1:
        return None
    if x.op is None or x.op.kind != "reshape" or not _transposed(x.op.operands[0]):
        return None
    turn = x.op.operands[0].op
    perm, sizes, keep = turn.attrs["perm"], turn.result.type.sizes, x.type.rank - 1
    if list(perm[:keep]) != list(range(keep)) or not all(isinstance(s, int) for s in sizes[keep:]):
        return None
    if not all(same(a, b) for a, b in zip(sizes[:keep], x.type.sizes)) or not context.allow():
        return None
    b = Builder(graph, op.loc.through(name), before=op)
    parts = tuple(sizes[keep:])
    back = tuple(i + 1 for i in inverse(tuple(p - keep for p in perm[keep:])))
    columns = b.derived(
        f"{w.name}.columns", f"columns {parts} {back}", w.type,
        lambda a: a.reshape(-1, *parts).transpose(0, *back).reshape(a.shape), w,
    )  # fmt: skip
    flat = b.reshape(turn.operands[0], shape=x.type.sizes)
    return _substitute(graph, op, b.emit("linear", (flat, columns, *op.operands[2:]), op.attrs))


# -- sinking -------------------------------------------------------------------------------------------------------
def _sink(graph: Graph, op: Op, context: Context, name: str) -> list[Op] | None:
    """op(transpose(x)) becomes transpose(op(x)), where that brings the transpose nearer to an inverse."""
    if op.kind not in MOVES or len(op.results) != 1 or op.attrs.get("dynamic") == "row":
        return None
    turns = [v for v in op.operands if _transposed(v)]
    if not turns:
        return None
    perm = turns[0].op.attrs["perm"]
    moved = MOVES[op.kind](op, perm)
    if moved is None or any(t.type.rank != len(perm) for t in turns):
        return None
    attrs, after = moved
    cancels = any(u.kind == "transpose" and u.attrs["perm"] == inverse(after) for u in op.result.users)
    waiting = {u for t in turns for u in t.users if u is not op and not _goes_on(u)}
    joined = op.operands[:1] if op.kind in ONE_OPERAND else op.operands
    strangers = [v for v in joined if v is not None and not _free(v, perm)]
    if (strangers or waiting) and not (cancels and len(op.result.users) == 1 and not _outputs(graph, op.result)):
        return None
    if len(strangers) > 1 or not context.allow():
        return None
    b = Builder(graph, op.loc.through(name), before=op)
    operands = [v if i and op.kind in ONE_OPERAND else _turned_back(b, v, perm) for i, v in enumerate(op.operands)]
    return _substitute(graph, op, b.transpose(b.emit(op.kind, operands, attrs), perm=after))


def _goes_on(u: Op) -> bool:
    """Whether another reader of a transpose can take it further, too."""
    return u.kind in MOVES or u.kind == "transpose"


def _free(v: Value, perm: Perm) -> bool:
    """Whether the operand in the other layout costs nothing."""
    if _transposed(v):
        return v.op.attrs["perm"] == perm
    if v.kind in ("weight", "const") and v.known:
        return True
    back = inverse(perm)
    return all(s == 1 for s in v.type.sizes) or any(
        u.kind == "transpose" and u.attrs["perm"] == back and v.type.rank == len(perm) for u in v.users
    )


def _turned_back(b: Builder, v: Value | None, perm: Perm) -> Value | None:
    """An operand in the layout before `perm`; lower ranks broadcast and get their missing dimensions first."""
    if v is None or v.type.rank == 0:
        return v
    if _transposed(v) and v.op.attrs["perm"] == perm:
        return v.op.operands[0]
    back, rank = inverse(perm), v.type.rank
    if rank < len(perm):
        shape = (1,) * (len(perm) - rank) + v.type.sizes
        if v.kind == "weight" and v.known and v.type.quant is None:
            v = b.derived(f"{v.name}.wide", f"reshape {shape}", Tensor(v.type.dtype, shape),
                          lambda a: a.reshape(shape), v)  # fmt: skip
        else:
            v = b.reshape(v, shape=shape)
    for u in v.users:
        if u.kind == "transpose" and u.attrs["perm"] == back and _before(u, b.before):
            return u.result
    if v.kind == "weight" and v.known and v.type.quant is None:
        return turned(b, v, back)
    return b.transpose(v, perm=back)


def _before(a: Op, b: Op) -> bool:
    """Whether `a` comes before `b` in its graph."""
    op = b
    while op is not None:
        if op is a:
            return True
        op = op.prev
    return False


def move(*kinds: str):
    """Register how ops of `kinds` work on the operand before a transpose: (attributes, transpose of the result)."""

    def register(function):
        for kind in kinds:
            MOVES[kind] = function
        return function

    return register


@move(*POINTWISE)
def _(op: Op, perm: Perm):
    ranks = {v.type.rank for v in op.operands if v is not None}
    return (op.attrs, perm) if max(ranks) == len(perm) else None


@move("softmax", "log_softmax", "flip", "cumsum", "cummax", "concat", "resize")
def _(op: Op, perm: Perm):
    return {**op.attrs, "axis": perm[op.attrs["axis"] % len(perm)]}, perm


@move("batch_norm", "slice")
def _(op: Op, perm: Perm):
    return {**op.attrs, "axis": perm[op.attrs["axis"] % len(perm)]}, perm


@move("layer_norm")
def _(op: Op, perm: Perm):
    first = op.attrs["axis"] % len(perm)
    return (op.attrs, perm) if list(perm[first:]) == list(range(first, len(perm))) else None


@move("rms_norm")
def _(op: Op, perm: Perm):
    return (op.attrs, perm) if perm[-1] == len(perm) - 1 else None


@move("pad")
def _(op: Op, perm: Perm):
    back = inverse(perm)
    return {**op.attrs, "pads": tuple(op.attrs["pads"][i] for i in back)}, perm


@move("sum", "mean", "max", "min")
def _(op: Op, perm: Perm):
    axes = tuple(sorted(perm[a] for a in op.attrs["axes"]))
    if op.attrs["keepdims"]:
        return {**op.attrs, "axes": axes}, perm
    left = [p for i, p in enumerate(perm) if i not in op.attrs["axes"]]
    kept = [i for i in range(len(perm)) if i not in axes]
    return {**op.attrs, "axes": axes}, tuple(kept.index(p) for p in left)


@move("argmax")
def _(op: Op, perm: Perm):
    axis = op.attrs["axis"] % len(perm)
    kept = [i for i in range(len(perm)) if i != perm[axis]]
    after = perm if op.attrs["keepdims"] else tuple(kept.index(p) for i, p in enumerate(perm) if i != axis)
    return {**op.attrs, "axis": perm[axis]}, after


@move("reshape")
def _(op: Op, perm: Perm):
    """Only where dimensions of size 1 come or go: they go to the end of the other layout, or leave it."""
    x, new = op.operands[0].op.operands[0].type, op.attrs["shape"]
    turned = [i for i in perm if x.sizes[i] != 1]  # axes of x in the order in which they stand before the reshape
    wide = [j for j, s in enumerate(new) if s != 1]
    if len(turned) != len(wide) or not all(same(x.sizes[i], new[j]) for i, j in zip(turned, wide)):
        return None
    order = sorted(turned)  # the axes of x that stay
    shape = tuple(x.sizes[i] for i in order) + (1,) * (len(new) - len(wide))
    ones = iter(range(len(order), len(new)))
    after = tuple(order.index(turned[wide.index(j)]) if j in wide else next(ones) for j in range(len(new)))
    return {**op.attrs, "shape": shape}, after

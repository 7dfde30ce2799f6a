"""Lay convolutions and pools out with channels last, and let the transposes around them meet and cancel."""

from __future__ import annotations

from ..ir.graph import Builder, Graph, Op, Value
from .base import Close, Context, Pass
from .transposes import settle

WINDOWS = ("conv", "conv_transpose", "max_pool", "avg_pool")


class ChannelsLast(Pass):
    """conv, pools and batch norm on [N, C, *S] → on [N, *S, C] between transposes, which are then moved and removed.

    Transposes sink through ops that can work in either layout until they meet their inverse. Group norm is spelled
    out in the new layout.
    """

    # Reductions add up in another order.
    name, stage, equal = "channels-last", "legalize", Close(rtol=1e-6)

    def run(self, graph: Graph, context: Context) -> None:
        for op in list(graph.ops):
            build = LAYOUTS.get(op.kind)
            if build is not None and build.applies(op):
                if not context.allow():
                    return
                _relaid(graph, op, build)
        settle(graph, context, self.name)


def _relaid(graph: Graph, op: Op, build) -> None:
    rank = op.operands[0].type.rank
    b = Builder(graph, op.loc.through(ChannelsLast.name), before=op)
    to_last, to_first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    y = build(b, op, b.transpose(op.operands[0], perm=to_last))
    graph.replace(op.result, b.transpose(y, perm=to_first))
    graph.erase(op)


def _any_layout(op: Op) -> bool:
    """Scales found at run time for each row belong to the rows of one layout."""
    return op.attrs.get("dynamic") != "row"


def window(b: Builder, op: Op, x: Value) -> Value:
    """A convolution or pool with its attribute turned."""
    return b.emit(op.kind, (x, *op.operands[1:]), {**op.attrs, "channel_last": True})


window.applies = lambda op: not op.attrs["channel_last"] and _any_layout(op)


def batch_norm(b: Builder, op: Op, x: Value) -> Value:
    return b.emit(op.kind, (x, *op.operands[1:]), {**op.attrs, "axis": x.type.rank - 1})


batch_norm.applies = lambda op: op.attrs["axis"] == 1 and op.result.type.rank > 2 and _any_layout(op)


def group_norm(b: Builder, op: Op, x: Value) -> Value:
    """Means over space and the channels of a group, on [N, *S, G, C / G]."""
    groups, eps = op.attrs["groups"], op.attrs["eps"]
    w, bias = op.operands[1:3]
    sizes, rank = x.type.sizes, x.type.rank
    y = b.reshape(x, shape=(*sizes[:-1], groups, sizes[-1] // groups)) if groups > 1 else x
    axes = (*range(1, rank - 1), y.type.rank - 1)
    centred = b.sub(y, b.mean(y, axes=axes, keepdims=True))
    variance = b.mean(b.mul(centred, centred), axes=axes, keepdims=True)
    y = b.mul(centred, b.rsqrt(b.add(variance, b.const(eps, x.type.dtype))))
    y = b.reshape(y, shape=sizes) if groups > 1 else y
    y = y if w is None else b.mul(y, w)
    y = y if bias is None else b.add(y, bias)
    extra = {k: op.attrs[k] for k in ("then", "out") if op.attrs.get(k)}
    return b.emit("add", (y, b.const(0, x.type.dtype)), extra) if extra else y


group_norm.applies = lambda op: op.operands[0].type.quant is None and not op.attrs.get("dynamic")

LAYOUTS = {**dict.fromkeys(WINDOWS, window), "batch_norm": batch_norm, "group_norm": group_norm}

"""Operators that pick elements by computed positions: embedding, gather, index."""

from __future__ import annotations

import numpy as np

from ....ir.expr import same
from ..table import aten


@aten("embedding")
def _(c, weight, indices, *_):
    return c.b.gather(weight, indices, axis=0)


@aten("index_select")
def _(c, x, dim, index):
    if index.type.rank == 0:
        index = c.reshape(index, (1,))
    return c.b.gather(x, index, axis=c.axis(x, dim))


@aten("gather")
def _(c, x, dim, index, *, sparse_grad=False):
    axis = c.axis(x, dim)
    crop = x  # PyTorch lets the index be shorter than x along the other axes
    for a, (have, want) in enumerate(zip(x.type.sizes, index.type.sizes)):
        if a != axis:
            crop = c.part(crop, a, 0, want) if have != want else crop
    return c.b.gather_elements(crop, index, axis=axis)


@aten("index.Tensor", "_unsafe_index.Tensor")
def _(c, x, indices):
    used = [a for a, i in enumerate(indices) if i is not None]
    if any(indices[a].type.dtype in ("bool", "u8") for a in used):
        raise c.no(
            "picks elements by a mask, so the size of the result depends on the data",
            "use torch.where, which keeps the size",
        )
    if used != list(range(used[0], used[-1] + 1)):
        raise c.no("has positions for axes that do not lie side by side", "index one axis at a time")
    if len(used) == 1:
        return c.b.gather(x, indices[used[0]], axis=used[0])
    # Several axes: one position in the axes taken together.
    sizes, first = x.type.sizes, used[0]
    flat, total = None, 1
    for a in used:
        i = c.cast(indices[a], "i64")
        flat = i if flat is None else c.b.add(c.b.mul(flat, c.value(sizes[a], "i64")), i)
        total = total * sizes[a]
    x = c.reshape(x, (*sizes[:first], total, *sizes[used[-1] + 1 :]))
    return c.b.gather(x, flat, axis=first)


@aten("scatter.value", "scatter.src")
def _(c, x, dim, index, source):
    axis = c.axis(x, dim)
    if index.type.sizes[axis] != 1 or any(
        not same(a, b) for i, (a, b) in enumerate(zip(index.type.sizes, x.type.sizes)) if i != axis
    ):
        raise c.no("writes several computed positions at once", "use torch.where, or assign to a slice")
    places = [x.type.sizes[axis] if i == axis else 1 for i in range(x.type.rank)]
    here = c.b.equal(c.reshape(c.b.iota(size=x.type.sizes[axis]), places), c.cast(index, "i64"))
    source = c.value(source, x.type.dtype)
    return c.b.where(here, c.part(source, axis, 0, 1) if source.type.rank else source, x)


@aten("index_put", "_unsafe_index_put")
def _(c, x, indices, values, accumulate=False):
    used = [a for a, i in enumerate(indices) if i is not None]
    first, places = used[0], [indices[a] for a in used]
    if not accumulate and len(used) == 1 and places[0].type.dtype == "bool" and values.type.rank == 0:
        return _where(c, x, first, places[0], values)
    if accumulate or used != list(range(first, used[-1] + 1)) or any(p.type.dtype in ("bool", "u8") for p in places):
        raise c.no("writes to computed positions", "use torch.where, or assign to a slice")
    sizes = x.type.sizes[first : used[-1] + 1]
    if _one_in_every_row(places, sizes):
        hit = c.b.equal(_column(c, places[-1], sizes[-1]), c.reshape(c.b.iota(size=sizes[-1]), (1, sizes[-1])))
        if values.type.rank == 0 or (values.type.rank == 1 and values.type.sizes[0] == 1):
            return _where(c, x, first, hit, c.reshape(values, ()))
        if values.type.rank == x.type.rank - 1 and first == 0:
            return _where(c, x, first, hit, c.unsqueezed(values, 1))
    if values.type.rank and set(values.type.sizes) != {1}:
        raise c.no("writes several computed positions at once", "use torch.where, or assign to a slice")
    flat, total = _flat(c, places, sizes)
    hit = c.b.equal(_column(c, flat, total), c.reshape(c.b.iota(size=total), (1, total)))
    hit = c.b.max(c.cast(hit, "i32"), axes=(0,), keepdims=False)
    return _where(c, x, first, c.cast(c.reshape(hit, sizes), "bool"), c.reshape(values, ()))


def _where(c, x, first: int, mask, values):
    """x with `values` where a mask, over the axes from `first` on, says so."""
    behind = x.type.rank - first - mask.type.rank
    mask = c.reshape(mask, (*mask.type.sizes, *[1] * behind))
    return c.b.where(mask, c.cast(values, x.type.dtype), x)


def _one_in_every_row(places, sizes) -> bool:
    """Whether two lists of positions say: row 0 and a column, row 1 and a column, and so on to the last row."""
    if len(places) != 2 or any(p.type.rank != 1 or not same(p.type.sizes[0], sizes[0]) for p in places):
        return False
    rows = places[0]
    while rows.op is not None and rows.op.kind == "cast":
        rows = rows.op.operands[0]
    if rows.op is not None:
        return rows.op.kind == "iota"
    return rows.known and np.array_equal(rows.array, np.arange(sizes[0]))


def _column(c, positions, size):
    """Positions as [n, 1] from the front of `size` elements; negative ones count from its end."""
    positions = c.cast(positions, "i64")
    positions = c.reshape(positions, (positions.type.sizes[0], 1))
    back = c.b.add(positions, c.value(size, "i64"))
    return c.b.where(c.b.less(positions, c.b.const(0, "i64")), back, positions)


def _flat(c, places, sizes):
    """Positions in several axes as positions in these axes taken together, [n], and the size of those."""
    flat, total = None, 1
    for i, size in zip(places, sizes):
        i = c.cast(i, "i64")
        if len(places) > 1:
            i = c.b.where(c.b.less(i, c.b.const(0, "i64")), c.b.add(i, c.value(size, "i64")), i)
        flat = i if flat is None else c.b.add(c.b.mul(flat, c.value(size, "i64")), i)
        total = total * size
    count = 1
    for n in flat.type.sizes:
        count = count * n
    return c.reshape(flat, (count,)), total

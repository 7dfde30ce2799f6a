"""Operators that pick elements by computed positions: embedding, gather, index."""

from __future__ import annotations

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
    if len(used) == 1 and indices[used[0]].type.dtype == "bool" and values.type.rank == 0 and not accumulate:
        mask = indices[used[0]]
        behind = x.type.rank - used[0] - mask.type.rank
        return c.b.where(c.reshape(mask, (*mask.type.sizes, *[1] * behind)), c.cast(values, x.type.dtype), x)
    raise c.no("writes to computed positions", "use torch.where, or assign to a slice")

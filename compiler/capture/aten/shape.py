"""Operators that move elements: views, transposition, slices, joins, repetition, padding."""

from __future__ import annotations

from ....ir.bounds import at_most
from ....ir.expr import Size, minimum, same
from ....ir.graph import Value
from ..table import Context, aten


@aten("view", "reshape", "_unsafe_view", "view_copy", "squeeze", "squeeze.dim", "squeeze.dims", "unsqueeze",
      "flatten.using_ints", "unflatten.int", "_reshape_alias", "squeeze_copy.dims", "unsqueeze_copy", "view_as",
      "ravel", "reshape_as", parts=True)  # fmt: skip
def _(c, x, *_):
    return c.reshape(x, c.shape(x))


@aten("view.dtype")
def _(c, x, dtype):
    if c.dtype() != x.type.dtype:
        raise c.no("reads the bits of one element type as another")
    return x


@aten("expand", "expand_copy", "expand_as", "broadcast_to", parts=True)
def _(c, x, *_, **__):
    return c.expand(x, c.shape(x))


@aten("broadcast_tensors", "meshgrid", "meshgrid.indexing")
def _(c, xs, indexing="ij"):
    if "meshgrid" in str(c.node.target):
        order = [1, 0, *range(2, len(xs))] if indexing == "xy" and len(xs) > 1 else range(len(xs))
        n = len(xs)
        xs = [c.reshape(x, [_count(x) if a == order[i] else 1 for a in range(n)]) for i, x in enumerate(xs)]
    return tuple(c.expand(x, c.shape(*xs, index=i)) for i, x in enumerate(xs))


@aten("transpose.int", "transpose_copy.int", "swapaxes", "swapdims", parts=True)
def _(c, x, a, b):
    return x if x.type.rank < 2 else c.swapped(x, a, b)


@aten("t", "numpy_T", "mT", parts=True)
def _(c, x):
    return x if x.type.rank < 2 else c.swapped(x, -2, -1)


@aten("permute", "permute_copy", parts=True)
def _(c, x, dims):
    return c.transpose(x, [c.axis(x, d) for d in dims])


@aten("movedim.int", "movedim.intlist", parts=True)
def _(c, x, source, destination):
    source = [c.axis(x, a) for a in ([source] if isinstance(source, int) else source)]
    destination = [c.axis(x, a) for a in ([destination] if isinstance(destination, int) else destination)]
    rest = iter(a for a in range(x.type.rank) if a not in source)
    to = dict(zip(destination, source))
    return c.transpose(x, [to[a] if a in to else next(rest) for a in range(x.type.rank)])


# -- slices --------------------------------------------------------------------------------------------------------
@aten("slice.Tensor", "slice_copy.Tensor", parts=True)
def _(c, x, dim=0, start=None, end=None, step=1):
    return sliced(c, x, c.axis(x, dim), start, end, step, c.shape(x)[c.axis(x, dim)])


def sliced(c: Context, x: Value, axis: int, start, end, step: int, length: Size) -> Value:
    """x[start:end:step] along `axis`, whose result torch says is `length` long.

    Torch takes for granted that an `end` stays inside (or outside) x as it does at the traced length; where it does not
    at other lengths, the result ends with x.
    """
    size = x.type.sizes[axis]
    if step == 1 and start in (None, 0) and not isinstance(end, int | None):
        length = clipped(c, end, size, length)
    if length == size and step == 1:
        return x
    start = 0 if start is None else start
    if _negative(c, start):
        start = start + size
    if isinstance(start, int):
        start = max(start, 0)
    if length == 0:
        return c.part(x, axis, 0, 0)
    stop = start + (length - 1) * step + 1
    if step > 1 and same((size - start + step - 1) // step, length):
        stop = size
    return c.part(x, axis, start, stop, step)


def clipped(c: Context, end: Size, size: Size, length: Size) -> Size:
    """How long x[:end] is, where x has `size` elements: `length`, as torch says, if that holds at every length."""
    if _negative(c, end) or not (same(length, end) or same(length, size)):
        return length
    other = size if same(length, end) else end
    return minimum(end, size) if at_most(length, other, c.limits) is False else length


def _negative(c: Context, bound: Size) -> bool:
    return (bound if isinstance(bound, int) else c.hint(bound)) < 0


@aten("narrow", parts=True)
def _(c, x, dim, start, length):
    axis = c.axis(x, dim)
    return sliced(c, x, axis, start, None, 1, c.shape(x)[axis])


@aten("select.int", "select_copy.int", parts=True)
def _(c, x, dim, index):
    axis = c.axis(x, dim)
    picked = sliced(c, x, axis, index, None, 1, 1) if x.type.sizes[axis] != 1 else x
    return c.reshape(picked, x.type.sizes[:axis] + x.type.sizes[axis + 1 :])


@aten("split.Tensor", "split_with_sizes", "chunk", "split.sizes", "split_with_sizes_copy", "tensor_split.sections",
      "unsafe_split.Tensor", "unsafe_chunk", parts=True)  # fmt: skip
def _(c, x, sizes, dim=0):
    axis = c.axis(x, dim)
    out, start = [], 0
    for i in range(len(c.node.meta["val"])):
        length = c.shape(x, index=i)[axis]
        out.append(c.part(x, axis, start, start + length))
        start = start + length
    return tuple(out)


@aten("unbind.int", "unbind_copy.int", parts=True)
def _(c, x, dim=0):
    axis = c.axis(x, dim)
    shape = x.type.sizes[:axis] + x.type.sizes[axis + 1 :]
    return tuple(c.reshape(c.part(x, axis, i, i + 1), shape) for i in range(len(c.node.meta["val"])))


@aten("slice_scatter")
def _(c, x, source, dim=0, start=None, end=None, step=1):
    axis = c.axis(x, dim)
    length = source.type.sizes[axis]
    source = c.cast(source, x.type.dtype)
    if step != 1:
        return _scatter_steps(c, x, source, axis, start, step)
    start = 0 if start is None else start + x.type.sizes[axis] if _negative(c, start) else start
    return replaced(c, x, source, axis, start, length)


def _scatter_steps(c: Context, x: Value, source: Value, axis: int, start, step: int) -> Value:
    size, start = x.type.sizes[axis], start or 0
    if not isinstance(size, int) or not isinstance(start, int):
        raise c.no("writes every other element of a dimension of unknown length")
    pieces = []
    for at in range(start, size, step):
        i = (at - start) // step
        pieces += [c.part(source, axis, i, i + 1)]
        if at + 1 < min(at + step, size):
            pieces += [c.part(x, axis, at + 1, min(at + step, size))]
    head = [c.part(x, axis, 0, start)] if start else []
    return c.concat(head + pieces, axis)


@aten("select_scatter")
def _(c, x, source, dim, index):
    axis = c.axis(x, dim)
    index = index + x.type.sizes[axis] if _negative(c, index) else index
    return replaced(c, x, c.unsqueezed(c.cast(source, x.type.dtype), axis), axis, index, 1)


def replaced(c: Context, x: Value, source: Value, axis: int, start: Size, length: Size) -> Value:
    """x with the `length` elements from `start` on along `axis` taken from `source`."""
    size = x.type.sizes[axis]
    source = c.expand(source, [length if a == axis else s for a, s in enumerate(x.type.sizes)])
    before = [] if start == 0 else [c.part(x, axis, 0, start)]
    after = [] if same(start + length, size) else [c.part(x, axis, start + length, size)]
    return c.concat([*before, source, *after], axis)


@aten("copy")
def _(c, x, source, non_blocking=False):
    return c.expand(c.cast(source, x.type.dtype), x.type.sizes)


# -- joins and repetition ------------------------------------------------------------------------------------------
@aten("cat", "concat", "concatenate")
def _(c, xs, dim=0):
    kept = [x for x in xs if x.type.sizes != (0,)]  # PyTorch lets empty vectors pass
    axis = c.axis(kept[0], dim)
    return c.concat([c.cast(x, c.dtype()) for x in kept if x.type.sizes[axis] != 0], axis)


@aten("stack")
def _(c, xs, dim=0):
    axis = dim % (xs[0].type.rank + 1)
    return c.concat([c.unsqueezed(c.cast(x, c.dtype()), axis) for x in xs], axis)


@aten("repeat", "tile", parts=True)
def _(c, x, repeats):
    sizes = (1,) * (len(repeats) - x.type.rank) + x.type.sizes
    repeats = (1,) * (len(sizes) - len(repeats)) + tuple(repeats)
    if all(s == 1 or r == 1 for s, r in zip(sizes, repeats)):
        return c.expand(c.reshape(x, sizes), [r if s == 1 else s for s, r in zip(sizes, repeats)])
    split = [n for s, r in zip(sizes, repeats) for n in ((s,) if r == 1 else (1, s))]
    grown = [n for s, r in zip(sizes, repeats) for n in ((s,) if r == 1 else (r, s))]
    return c.reshape(c.expand(c.reshape(x, split), grown), [s * r for s, r in zip(sizes, repeats)])


@aten("repeat_interleave.self_int")
def _(c, x, repeats, dim=None, *, output_size=None):
    if dim is None:
        x, dim = c.reshape(x, (_count(x),)), 0
    axis, sizes = c.axis(x, dim), x.type.sizes
    x = c.reshape(x, (*sizes[: axis + 1], 1, *sizes[axis + 1 :]))
    x = c.expand(x, (*sizes[: axis + 1], repeats, *sizes[axis + 1 :]))
    return c.reshape(x, (*sizes[:axis], sizes[axis] * repeats, *sizes[axis + 1 :]))


def _count(x: Value) -> Size:
    total: Size = 1
    for s in x.type.sizes:
        total = total * s
    return total


@aten("flip", parts=True)
def _(c, x, dims):
    for d in dims:
        x = c.b.flip(x, axis=c.axis(x, d))
    return x


@aten("roll", parts=True)
def _(c, x, shifts, dims=()):
    if not dims:
        flat = c.reshape(x, (_count(x),))
        return c.reshape(_rolled(c, flat, 0, shifts[0]), x.type.sizes)
    for shift, d in zip(shifts, dims):
        x = _rolled(c, x, c.axis(x, d), shift)
    return x


def _rolled(c: Context, x: Value, axis: int, shift: Size) -> Value:
    size = x.type.sizes[axis]
    if isinstance(size, int) and isinstance(shift, int):
        shift %= size
    elif _negative(c, shift):
        shift = shift + size
    if shift == 0:
        return x
    return c.concat([c.part(x, axis, size - shift, size), c.part(x, axis, 0, size - shift)], axis)


@aten("unfold", "unfold_copy")
def _(c, x, dimension, size, step):
    axis = c.axis(x, dimension)
    if axis == x.type.rank - 1:
        return c.b.frame(x, size=size, hop=step)
    last = x.type.rank - 1
    y = c.b.frame(c.transpose(x, [*[a for a in range(last + 1) if a != axis], axis]), size=size, hop=step)
    order = list(range(last))
    order.insert(axis, last)  # the count of frames goes back to the axis' place; frames stay last
    return c.transpose(y, [*order, last + 1])


# -- padding -------------------------------------------------------------------------------------------------------
@aten("constant_pad_nd")
def _(c, x, pad, value=0):
    return padded(c, x, pad, "constant", value)


@aten("pad")
def _(c, x, pad, mode="constant", value=None):
    return padded(c, x, pad, mode, value or 0)


@aten("reflection_pad1d", "reflection_pad2d")
def _(c, x, padding):
    return padded(c, x, padding, "reflect")


@aten("replication_pad1d", "replication_pad2d")
def _(c, x, padding):
    return padded(c, x, padding, "replicate")


def padded(c: Context, x: Value, pad, mode: str, value=0) -> Value:
    """`torch.nn.functional.pad`: pairs from the last axis on; negative amounts crop."""
    pairs = [(0, 0)] * x.type.rank
    for i in range(len(pad) // 2):
        pairs[-1 - i] = (pad[2 * i], pad[2 * i + 1])
    for axis, (before, after) in enumerate(pairs):
        front = -before if isinstance(before, int) and before < 0 else 0
        back = -after if _negative(c, after) else 0
        if front or back != 0:
            x = c.part(x, axis, front, x.type.sizes[axis] - back)
            pairs[axis] = (before if not front else 0, after if back == 0 else 0)
    if all(p == (0, 0) for p in pairs):
        return x
    if mode == "circular":
        for axis, (before, after) in enumerate(pairs):
            size = x.type.sizes[axis]
            front = [c.part(x, axis, size - before, size)] if before != 0 else []
            x = c.concat([*front, x, *([c.part(x, axis, 0, after)] if after != 0 else [])], axis)
        return x
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    return c.b.pad(x, pads=tuple(pairs), mode=names[mode], value=float(value))

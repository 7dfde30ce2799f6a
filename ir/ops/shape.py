"""Ops that move elements without arithmetic: reshape, transpose, slice, pad, gather; and sizes as values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from ..errors import IRError
from ..expr import Size, floordiv, minimum, same
from ..registry import op
from ..types import DTYPES, Dim, Tensor, edge_free, join, normal_axis, offline, resized


@op(carries=True)
def reshape(x, *, shape):
    """The same elements in row-major order under another shape (sizes may be symbolic, never -1)."""
    return x.reshape(shape)


@reshape.rule
def _(x, *, shape):
    return x.with_(shape=_regroup(x.shape, tuple(shape)), quant=_whole(x))


def _whole(x: Tensor):
    if x.quant is not None and x.quant.axis is not None:
        raise IRError("a tensor quantized per channel cannot change its shape")
    return x.quant


def _regroup(old: tuple[Dim, ...], new: tuple[Size, ...]) -> list[Dim]:
    """The new dimensions, the time of each run carried through it."""
    out: list[Dim] = [Dim(s) for s in new]
    for i0, i, j0, j in runs(tuple(d.size for d in old), new):
        for at, d in _carried(old[i0:i], new[j0:j]):
            out[j0 + at] = d
    return out


def runs(old: tuple[Size, ...], new: tuple[Size, ...]) -> Iterator[tuple[int, int, int, int]]:
    """Runs of dimensions with equal products, as (start, stop) among the old and (start, stop) among the new ones.

    Raises `IRError` where the two cannot be shown to hold as many elements.
    """
    i = j = 0
    while i < len(old) or j < len(new):
        i0, j0 = i, j
        left: Size = old[i] if i < len(old) else 1
        right: Size = new[j] if j < len(new) else 1
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while not same(left, right):
            if j < len(new) and (i >= len(old) or _divides(right, left)):
                right, j = right * new[j], j + 1
            elif i < len(old):
                left, i = left * old[i], i + 1
            else:
                raise IRError(
                    f"cannot show that {[str(s) for s in old]} and {[str(s) for s in new]} hold as many elements"
                )
        yield i0, i, j0, j


def _divides(a: Size, b: Size) -> bool:
    """Whether the run `a` wants another factor before `b` does (a guess that only steers the search)."""
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    if isinstance(a, int):
        return True
    if isinstance(b, int):
        return False
    return str(b) != str(a) and all(c1 <= c2 for (_, c1), (_, c2) in zip(a.terms, b.terms))


def _carried(old: tuple[Dim, ...], new: tuple[Size, ...]):
    """Where the time of a run goes: only the slowest-varying dimension that is not 1 can hand it on."""
    times = [d for d in old if d.time is not None]
    if len(times) != 1:
        return
    major = next((d for d in old if d.size != 1), times[0])
    if major is not times[0]:
        return
    targets = [i for i, s in enumerate(new) if s != 1] or [0] * bool(new)
    if not targets:
        return
    at = targets[0]
    others = math.prod(d.size for d in old if d is not major), math.prod(s for i, s in enumerate(new) if i != at)
    if all(isinstance(n, int) and n for n in others):  # frames stacked (rate falls) or unstacked (rate rises)
        up, down = Fraction(*others).as_integer_ratio()
        yield at, resized(major, new[at], Fraction(up, down), lambda n: floordiv(n * up, down))
    elif same(new[at], major.size):
        yield at, major


@op(carries=True)
def transpose(x, *, perm):
    """The dimensions in the order `perm`."""
    return x.transpose(perm)


@transpose.rule
def _(x, *, perm):
    if sorted(perm) != list(range(x.rank)):
        raise IRError(f"{list(perm)} is not a permutation of {x.rank} dimensions")
    quant = x.quant
    if quant is not None and quant.axis is not None:
        from dataclasses import replace

        quant = replace(quant, axis=tuple(perm).index(quant.axis))
    return x.with_(shape=[x.shape[p] for p in perm], quant=quant)


@op(carries=True)
def expand(x, *, shape):
    """x repeated along its dimensions of size 1 (and along new ones in front) up to `shape`."""
    return np.broadcast_to(x, shape)


@expand.rule
def _(x, *, shape):
    if len(shape) < x.rank:
        raise IRError(f"cannot expand rank {x.rank} to {list(shape)}")
    new = [Dim.of(s) for s in shape]
    for i, d in enumerate(x.shape, len(shape) - x.rank):
        if d.size != 1 and not same(d.size, new[i].size):
            raise IRError(f"cannot expand {x} to {list(shape)}")
        new[i] = join(d, new[i])
    return x.with_(shape=new, quant=_whole(x))


@op("slice", carries=True)
def slice_(x, *, axis, start, stop, step=1):
    """Elements start, start + step, … below stop along `axis`; 0 <= start <= stop <= size, step >= 1."""
    return x[(np.s_[:],) * axis + (np.s_[start:stop:step],)]


@slice_.rule
def _(x, *, axis, start, stop, step):
    if not 0 <= axis < x.rank or step < 1:
        raise IRError(f"no slice {start}:{stop}:{step} along axis {axis} of rank {x.rank}")
    size = (stop - start + step - 1) // step
    if isinstance(size, int) and size < 0:
        raise IRError(f"slice {start}:{stop} is empty")
    d = x.shape[axis]
    if same(size, d.size) and step == 1:
        new = d
    else:
        new = resized(d, size, Fraction(1, step), lambda n: floordiv(n + step - 1, step), start)
    if isinstance(size, int) and not isinstance(d.size, int):
        new = Dim(size)  # a fixed number of frames out of a length that varies is no stream
    return x.with_(shape=[*x.shape[:axis], new, *x.shape[axis + 1 :]])


@op(carries=True)
def concat(*xs, axis):
    """The operands one after the other along `axis`."""
    return np.concatenate(xs, axis)


@concat.rule
def _(*xs, axis):
    if not xs or any(x.dtype != xs[0].dtype or x.rank != xs[0].rank or x.quant != xs[0].quant for x in xs):
        raise IRError("wants operands of one element type, rank and quantization")
    shape = []
    for i in range(xs[0].rank):
        d = xs[0].shape[i]
        if i == axis:
            total = sum((x.shape[i].size for x in xs[1:]), d.size)
            timed = next((x.shape[i] for x in xs if x.shape[i].time), d)
            d = _joined([x.shape[i] for x in xs], total) if not offline(timed) else resized(timed, total)
        else:
            for x in xs[1:]:
                if not same(d.size, x.shape[i].size):
                    raise IRError(f"sizes differ along axis {i}: {d} and {x.shape[i]}")
                d = join(d, x.shape[i])
        shape.append(d)
    return xs[0].with_(shape=shape)


def _joined(pieces: list[Dim], total: Size) -> Dim:
    """Pieces of one step, one after the other: each must start where the one before it ends."""
    at = None
    for d in pieces:
        if d.time is None or (at is not None and d.time.delay != at):
            raise IRError(f"{', '.join(map(str, pieces))} do not follow one another")
        at = d.time.delay - d.size
    return Dim(total, pieces[0].time)


@op(carries=True)
def pad(x, *, pads, mode="constant", value=0.0):
    """x with `pads[i] = (before, after)` more elements on each axis: constant, edge or reflect (without the edge)."""
    if mode == "constant":
        return np.pad(x, pads, constant_values=np.array(value).astype(x.dtype))
    return np.pad(x, pads, mode=mode)


@pad.rule
def _(x, *, pads, mode, value):
    if len(pads) != x.rank or mode not in ("constant", "edge", "reflect"):
        raise IRError("wants a pair of pads for every axis and mode constant, edge or reflect")
    for d, p in zip(x.shape, pads):
        edge_free(d, p)
    shape = [d if p == (0, 0) else resized(d, d.size + p[0] + p[1]) for d, p in zip(x.shape, pads)]
    return x.with_(shape=shape)


@op(carries=True)
def gather(x, index, *, axis=0):
    """The slices of x along `axis` that the integers in `index` name; its dimensions take the axis' place."""
    return np.take(x, index, axis)


@gather.rule
def _(x, index, *, axis):
    if index.dtype not in ("i32", "i64") or not 0 <= axis < x.rank:
        raise IRError("wants an i32 or i64 index and an axis of x")
    return x.with_(shape=[*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]], quant=_whole(x))


@op(carries=True)
def gather_elements(x, index, *, axis):
    """result[..., i, ...] = x[..., index[..., i, ...], ...]: an index for every element of the result."""
    return np.take_along_axis(x, index, axis)


@gather_elements.rule
def _(x, index, *, axis):
    if index.dtype not in ("i32", "i64") or index.rank != x.rank:
        raise IRError("wants an i32 or i64 index of the same rank")
    return x.with_(shape=index.shape, quant=_whole(x))


@op(carries=True)
def flip(x, *, axis):
    """x backwards along `axis`."""
    return np.flip(x, axis)


@flip.rule
def _(x, *, axis):
    normal_axis(axis, x.rank)
    return x


@op
def iota(*, size, dtype="i64"):
    """0, 1, …, size - 1."""
    return np.arange(size, dtype=DTYPES[dtype])


@iota.rule
def _(*, size, dtype):
    return Tensor(dtype, (size,))


@op
def size(*, of):
    """A symbolic size as an i64 scalar."""
    return np.array(of, np.int64)


@size.rule
def _(*, of):
    return Tensor("i64")


def clipped(bound: Size, size: Size) -> Size:
    """A slice bound as PyTorch means it: from the end when negative, at most the size."""
    if isinstance(bound, int) and bound < 0:
        bound = bound + size
    return minimum(bound, size)

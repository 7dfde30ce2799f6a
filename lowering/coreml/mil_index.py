"""MIL's ops that select by index: slices, gathers, scatters, sorting, one-hot.

An index outside its dimension is undefined on a device (from iOS 17 on a negative one too), so here it is refused.
"""

from __future__ import annotations

import numpy as np

from .mil_table import Refused, mil

# Slices


def _slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask):
    n = x.ndim
    none = [False] * n
    begin_mask, end_mask = begin_mask if begin_mask is not None else none, end_mask if end_mask is not None else none
    squeeze_mask = squeeze_mask if squeeze_mask is not None else none
    stride = [1] * n if stride is None else stride
    if len(begin) != n or len(end) != n:
        raise Refused(f"begin {list(begin)} and end {list(end)} do not fit {n} dimensions")
    found: list = []
    for i in range(n):
        first = None if begin_mask[i] else int(begin[i])
        if squeeze_mask[i]:
            at = first or 0
            if not -x.shape[i] <= at < x.shape[i]:
                raise Refused(f"index {at} of dimension {i} in {list(x.shape)}")
            found.append(at)
        else:
            found.append(slice(first, None if end_mask[i] else int(end[i]), int(stride[i])))
    return tuple(found)


@mil("slice_by_index", moves=True)
def slice_by_index(x, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    return x[_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


@mil("slice_update", since=18, alike=("x", "update"), moves=True)
def slice_update(x, update, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    y = x.copy()
    at = _slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    if y[at].shape != update.shape:
        raise Refused(f"an update of {list(update.shape)} for a slice of {list(y[at].shape)}")
    y[at] = update
    return y


@mil("slice_by_size", moves=True)
def slice_by_size(x, begin, size):
    """A size of -1 reaches to the end."""
    at = []
    for i, (first, count) in enumerate(zip(begin, size, strict=True)):
        first = int(first) + (x.shape[i] if first < 0 else 0)
        last = x.shape[i] if count == -1 else first + int(count)
        if first < 0 or last > x.shape[i]:
            raise Refused(f"elements {first} to {last} of dimension {i} in {list(x.shape)}")
        at.append(slice(first, last))
    return x[tuple(at)]


# Gathers


def _inside(indices, size, negative=False):
    low = -size if negative else 0
    if indices.size and (indices.min() < low or indices.max() >= size):
        raise Refused(f"indices from {indices.min()} to {indices.max()} in a dimension of {size}")
    return indices.astype(np.int64)


def _gather(x, indices, axis, batch_dims, negative):
    axis, batch = int(axis) % x.ndim, int(batch_dims)
    indices = _inside(np.asarray(indices), x.shape[axis], negative)
    if batch == 0:
        return np.take(x, indices, axis)
    rows = x.reshape(-1, *x.shape[batch:])
    picked = indices.reshape(len(rows), *indices.shape[batch:])
    found = np.stack([np.take(r, i, axis - batch) for r, i in zip(rows, picked)])
    return found.reshape(*x.shape[:batch], *found.shape[1:])


@mil("gather", moves=True, later={"batch_dims": 16})
def gather(x, indices, axis=0, batch_dims=0):
    return _gather(x, indices, axis, batch_dims, True)


@mil("gather", since=17, moves=True)
def gather_positive(x, indices, axis=0, batch_dims=0, validate_indices=False):
    return _gather(x, indices, axis, batch_dims, False)


@mil("gather_along_axis", moves=True)
def gather_along_axis(x, indices, axis=0):
    return np.take_along_axis(x, _inside(indices, x.shape[int(axis)], True), int(axis))


@mil("gather_along_axis", since=17, moves=True)
def gather_along_axis_positive(x, indices, axis=0, validate_indices=False):
    return np.take_along_axis(x, _inside(indices, x.shape[int(axis)]), int(axis))


def _gather_nd(x, indices, batch_dims, negative):
    batch, depth = int(batch_dims), indices.shape[-1]
    places = [_inside(indices[..., i], x.shape[batch + i], negative) for i in range(depth)]
    around = indices.ndim - 1
    rows = [np.arange(n).reshape(-1, *(1,) * (around - i - 1)) for i, n in enumerate(x.shape[:batch])]
    return x[(*rows, *places)]


@mil("gather_nd", moves=True, later={"batch_dims": 16})
def gather_nd(x, indices, batch_dims=0):
    return _gather_nd(x, indices, batch_dims, True)


@mil("gather_nd", since=17, moves=True)
def gather_nd_positive(x, indices, batch_dims=0, validate_indices=False):
    return _gather_nd(x, indices, batch_dims, False)


# Scatters. Where an index is met twice, all its updates count, in order.

MODES = {
    "update": np.ndarray.__setitem__, "add": np.add.at, "sub": np.subtract.at, "mul": np.multiply.at,
    "div": np.divide.at, "max": np.maximum.at, "min": np.minimum.at,
}  # fmt: skip


def _scattered(data, at, updates, mode):
    if mode not in MODES:
        raise Refused(f"the mode {mode} is not one of {', '.join(MODES)}")
    y = data.copy()
    if mode == "div" and y.dtype.kind == "i":
        raise Refused("division of integers has no defined rounding")
    MODES[mode](y, at, updates)
    return y


def _scatter(data, indices, updates, axis, mode, negative):
    axis = int(axis) % data.ndim
    at = _inside(indices, data.shape[axis], negative)
    return _scattered(data, (slice(None),) * axis + (at,), updates, mode)


def _scatter_along_axis(data, indices, updates, axis, mode, negative):
    axis = int(axis) % data.ndim
    places = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    places[axis] = _inside(indices, data.shape[axis], negative)
    return _scattered(data, tuple(places), updates, mode)


def _scatter_nd(data, indices, updates, mode, negative):
    at = tuple(_inside(indices[..., i], data.shape[i], negative) for i in range(indices.shape[-1]))
    return _scattered(data, at, updates, mode)


# `mode` is always written: Apple's text and code differ in what leaving it out means.


@mil("scatter", alike=("data", "updates"))
def scatter(data, indices, updates, mode, axis=0):
    return _scatter(data, indices, updates, axis, mode, True)


@mil("scatter", since=17, alike=("data", "updates"))
def scatter_positive(data, indices, updates, mode, axis=0, validate_indices=False):
    return _scatter(data, indices, updates, axis, mode, False)


@mil("scatter_along_axis", alike=("data", "updates"))
def scatter_along_axis(data, indices, updates, mode, axis=0):
    return _scatter_along_axis(data, indices, updates, axis, mode, True)


@mil("scatter_along_axis", since=17, alike=("data", "updates"))
def scatter_along_axis_positive(data, indices, updates, mode, axis=0, validate_indices=False):
    return _scatter_along_axis(data, indices, updates, axis, mode, False)


@mil("scatter_nd", alike=("data", "updates"))
def scatter_nd(data, indices, updates, mode):
    return _scatter_nd(data, indices, updates, mode, True)


@mil("scatter_nd", since=17, alike=("data", "updates"))
def scatter_nd_positive(data, indices, updates, mode, validate_indices=False):
    return _scatter_nd(data, indices, updates, mode, False)


# Sorting and counting


def _order(x, axis, ascending):
    """Stable: the first of equals comes first, in both directions."""
    if ascending:
        return np.argsort(x, axis, kind="stable")
    turned = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return x.shape[axis] - 1 - turned


@mil("argsort", gives="=int32")
def argsort(x, axis=-1, ascending=False):
    return _order(x, int(axis), bool(ascending))


@mil(
    "topk",
    gives=("x", "@output_indices_dtype"),
    later={"sort": 16, "return_indices": 16, "output_indices_dtype": 17},
)
def topk(x, k=1, axis=-1, ascending=False, sort=True, return_indices=True, output_indices_dtype="int32"):
    """The k largest (smallest) in order, whether or not the order is asked for; all of them for k = -1."""
    axis = int(axis)
    count = x.shape[axis] if k == -1 else int(k)
    if count > x.shape[axis]:
        raise Refused(f"{count} of {x.shape[axis]} elements")
    indices = np.take(_order(x, axis, bool(ascending)), range(count), axis)
    values = np.take_along_axis(x, indices, axis)
    return (values, indices) if return_indices else values


@mil("non_zero", gives="=int32")
def non_zero(x):
    """[N, rank]: one row an element."""
    return np.argwhere(x)


@mil("one_hot", gives="on_value", alike=("on_value", "off_value"), moves=True)
def one_hot(indices, one_hot_vector_size, axis=-1, on_value=1, off_value=0):
    size = int(one_hot_vector_size)
    hit = np.asarray(indices)[..., None] == np.arange(size)
    return np.moveaxis(np.where(hit, on_value, off_value), -1, int(axis))

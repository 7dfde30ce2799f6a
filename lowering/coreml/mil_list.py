"""MIL's lists of tensors: fixed or growing arrays whose elements are written and read by index."""

from __future__ import annotations

import numpy as np

from .mil_file import TYPES
from .mil_table import Refused, mil


class TensorList(list):
    """Elements, None where nothing was written yet: there, zeros of `shape`."""

    dtype = np.dtype(np.float32)
    shape: tuple = ()
    grows = True


def _copy(ls: TensorList, values) -> TensorList:
    made = TensorList(values)
    made.dtype, made.shape, made.grows = ls.dtype, ls.shape, ls.grows
    return made


def _place(ls: TensorList, at: int) -> TensorList:
    """A copy of the list that has an element `at`."""
    if at < 0 or (at >= len(ls) and not ls.grows):
        raise Refused(f"index {at} in a list of {len(ls)}")
    return _copy(ls, [*ls, *[None] * (at + 1 - len(ls))])


def _read(ls: TensorList, at: int) -> np.ndarray:
    if not 0 <= at < len(ls):
        raise Refused(f"element {at} of a list of {len(ls)}")
    if ls[at] is None and any(isinstance(s, str) for s in ls.shape):
        raise Refused(f"element {at} was never written, and its shape is not known")
    return np.zeros([int(s) for s in ls.shape], ls.dtype) if ls[at] is None else ls[at]


@mil("make_list", gives="@dtype")
def make_list(elem_shape: tuple = (), init_length=1, dynamic_length=True, dtype="fp32"):
    made = TensorList([None] * int(init_length))
    made.dtype, made.shape, made.grows = np.dtype(TYPES[dtype][1]), elem_shape, bool(dynamic_length)
    return (made,)


@mil("list_length", gives="=int32")
def list_length(ls):
    return np.asarray(len(ls))


@mil("list_write", moves=True)
def list_write(ls, index, value):
    found = _place(ls, int(index))
    found[int(index)] = value
    return (found,)


@mil("list_scatter", moves=True)
def list_scatter(ls, indices, value):
    for at, element in zip(indices, value, strict=True):
        ls = _place(ls, int(at))
        ls[int(at)] = element
    return (ls,)


@mil("list_read", gives="*", moves=True)
def list_read(ls, index):
    return _read(ls, int(index))


@mil("list_gather", gives="*", moves=True)
def list_gather(ls, indices):
    return np.stack([_read(ls, int(i)) for i in indices])

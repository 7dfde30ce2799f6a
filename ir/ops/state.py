"""State that lives from one call to the next: read at its start, written at its end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import IRError
from ..expr import same
from ..registry import op
from ..types import Dim, Tensor


@op(carries=True)
def read(state):
    """The state as the last call left it (its initial value at first)."""
    return state


@read.rule
def _(state):
    return state


@op(carries=True, effect=True)
def write(state, value):
    """Make `value` what `read` gives in the next call."""
    return ()


@write.rule
def _(state, value):
    if state != value:
        raise IRError(f"a state of type {state} cannot become {value}")
    return ()


@write.updates
def _(state, value):
    return value


@op(carries=True)
def history(x, state, *, axis, lead=0, trail=0):
    """The chunk x behind the last frames of the chunks before it, which `state` holds; the state moves on.

    The result counts the frames of the stream padded by `lead` in front and `trail` behind: this is the cache of a
    convolution, of a pool, of keys and values, and, read from its front, a delay.
    """
    return np.concatenate([state, x], axis)


@history.rule
def _(x, state, *, axis, lead, trail):
    held = state.shape[axis].size if 0 <= axis < x.rank == state.rank else None
    if not isinstance(held, int) or not isinstance(x.shape[axis].size, int):
        raise IRError(f"wants a state of known size along axis {axis}")
    rest = [i for i in range(x.rank) if i != axis]
    if x.dtype != state.dtype or x.quant != state.quant or any(not same(x.sizes[i], state.sizes[i]) for i in rest):
        raise IRError(f"a state of type {state} does not hold frames of {x}")
    d = x.shape[axis]
    time = d.time and replace(d.time, delay=d.time.delay + held - lead, length=d.time.length + lead + trail)
    return x.with_(shape=[Dim(d.size + held, time) if i == axis else e for i, e in enumerate(x.shape)])


@history.updates
def _(x, state, *, axis, lead, trail):
    both = np.concatenate([state, x], axis)
    return both[(np.s_[:],) * axis + (np.s_[both.shape[axis] - state.shape[axis] :],)]


@op(carries=True)
def retime(x, *, axis, to):
    """x itself; its dimension `axis` is, from here on, `to`: the same frames under other numbers."""
    return x


@retime.rule
def _(x: Tensor, *, axis, to):
    if not same(Dim.of(to).size, x.shape[axis].size):
        raise IRError(f"wants a dimension of {x.shape[axis].size} elements, got {to}")
    return x.with_(shape=[Dim.of(to) if i == axis else d for i, d in enumerate(x.shape)])

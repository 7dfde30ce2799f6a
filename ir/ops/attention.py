"""Scaled dot-product attention as one op."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..expr import same
from ..registry import op
from ..types import Tensor, broadcast
from .norm import softmax


@op
def attention(q, k, v, mask=None, *, scale, causal=False):
    """softmax(scale · q kᵀ + mask) v, per head (Vaswani et al. 2017).

    q is [..., H, Tq, D], k [..., G, Tk, D], v [..., G, Tk, E]; each of the G key heads serves H / G query heads
    (Ainslie et al. 2023). mask broadcasts to [..., H, Tq, Tk]: bool (true: look) or added. `causal`: query i sees keys
    0 to i. A query that sees nothing gives zeros.
    """
    if k.shape[-3] != q.shape[-3]:
        k, v = (np.repeat(a, q.shape[-3] // a.shape[-3], axis=-3) for a in (k, v))
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * q.dtype.type(scale)
    if mask is not None:
        scores = np.where(mask, scores, q.dtype.type(-np.inf)) if mask.dtype == np.bool_ else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, q.dtype.type(-np.inf))
    return np.matmul(softmax.meaning(scores, axis=-1), v)


@attention.rule
def _(q, k, v, mask, *, scale, causal):
    if q.rank < 3 or not q.rank == k.rank == v.rank or not q.dtype == k.dtype == v.dtype:
        raise IRError("wants q, k, v of [..., heads, time, features] and one element type")
    heads, groups = q.sizes[-3], k.sizes[-3]
    if not same(heads, groups) and (not isinstance(heads, int) or not isinstance(groups, int) or heads % groups):
        raise IRError(f"{heads} query heads cannot share {groups} key heads")
    if not same(q.sizes[-1], k.sizes[-1]) or not same(k.sizes[-2], v.sizes[-2]) or not same(groups, v.sizes[-3]):
        raise IRError(f"sizes do not fit: q {q}, k {k}, v {v}")
    if mask is not None:
        if mask.dtype not in ("bool", q.dtype):
            raise IRError(f"wants a mask of bool or {q.dtype}, got {mask.dtype}")
        scores = (*q.shape[:-1], k.shape[-2])
        if len(broadcast(mask.shape, scores)) != len(scores):
            raise IRError(f"mask {mask} does not fit scores {list(map(str, scores))}")
    return Tensor(q.dtype, (*broadcast(q.shape[:-3], k.shape[:-3]), *q.shape[-3:-1], v.shape[-1]))

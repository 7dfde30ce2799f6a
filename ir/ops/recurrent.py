"""Recurrent layers with explicit state: one layer, one direction an op; time is axis 1 of [batch, time, features]."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..expr import same
from ..registry import op
from ..types import Tensor


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _scan(x, reverse, step, carry):
    """Run `step(frame, carry) -> carry` along axis 1, stacking the first part of the carry."""
    out = [None] * x.shape[1]
    for t in range(x.shape[1] - 1, -1, -1) if reverse else range(x.shape[1]):
        carry = step(x[:, t], *carry)
        out[t] = carry[0]
    stacked = np.stack(out, 1) if out else np.zeros((x.shape[0], 0, carry[0].shape[-1]), x.dtype)
    return (stacked, *carry)


@op
def lstm(x, h, c, w, r, b=None, proj=None, *, reverse=False):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), gates in PyTorch's order: input, forget, cell, output.

    x [B, T, I], h [B, P], c [B, H], w [4H, I], r [4H, P], b [4H], proj [P, H] (P = H without it; Sak et al. 2014).
    Gives y [B, T, P] and the last h and c. `reverse` runs from the last frame to the first.
    """

    def step(frame, h, c):
        gates = frame @ w.T + h @ r.T
        i, f, g, o = np.split(gates if b is None else gates + b, 4, -1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        return (h if proj is None else h @ proj.T), c

    return _scan(x, reverse, step, (h, c))


@lstm.rule
def _(x, h, c, w, r, b, proj, *, reverse):
    _check(x, h, w, r, b, 4)
    if c.rank != 2 or c.sizes[1] * 4 != w.sizes[0]:
        raise IRError("wants c of [batch, hidden]")
    if proj is not None and proj.sizes != (h.sizes[1], c.sizes[1]):
        raise IRError("wants proj of [projected, hidden]")
    return Tensor(x.dtype, (x.shape[0], x.shape[1], h.shape[1])), h, c


@op
def gru(x, h, w, r, b=None, rb=None, *, reverse=False):
    """Gated recurrent unit (Cho et al. 2014) as PyTorch defines it, gates in its order: reset, update, new.

    n = tanh(w_n x + b_n + reset * (r_n h + rb_n)); x [B, T, I], h [B, H], w [3H, I], r [3H, H], b and rb [3H].
    Gives y [B, T, H] and the last h.
    """

    def step(frame, h):
        a, s = frame @ w.T, h @ r.T
        ar, az, an = np.split(a if b is None else a + b, 3, -1)
        sr, sz, sn = np.split(s if rb is None else s + rb, 3, -1)
        z = _sigmoid(az + sz)
        n = np.tanh(an + _sigmoid(ar + sr) * sn)
        return ((1 - z) * n + z * h,)

    return _scan(x, reverse, step, (h,))


@gru.rule
def _(x, h, w, r, b, rb, *, reverse):
    _check(x, h, w, r, b, 3)
    return Tensor(x.dtype, (x.shape[0], x.shape[1], h.shape[1])), h


@op
def rnn(x, h, w, r, b=None, *, relu=False, reverse=False):
    """h = tanh(w x + r h + b) (Elman 1990), or relu; x [B, T, I], h [B, H], w [H, I], r [H, H], b [H]."""

    def step(frame, h):
        a = frame @ w.T + h @ r.T
        a = a if b is None else a + b
        return (np.maximum(a, 0) if relu else np.tanh(a),)

    return _scan(x, reverse, step, (h,))


@rnn.rule
def _(x, h, w, r, b, *, relu, reverse):
    _check(x, h, w, r, b, 1)
    return Tensor(x.dtype, (x.shape[0], x.shape[1], h.shape[1])), h


def _check(x: Tensor, h: Tensor, w: Tensor, r: Tensor, b: Tensor | None, gates: int) -> None:
    if x.rank != 3 or h.rank != 2 or w.rank != 2 or r.rank != 2:
        raise IRError("wants x of [batch, time, features], h of [batch, hidden] and matrices w and r")
    if not same(x.sizes[2], w.sizes[1]) or not same(h.sizes[1], r.sizes[1]) or w.sizes[0] != r.sizes[0]:
        raise IRError(f"sizes do not fit: x {x}, h {h}, w {w}, r {r}")
    if w.sizes[0] % gates or (b is not None and b.sizes != (w.sizes[0],)):
        raise IRError(f"wants {gates} gates in w, r and b")

"""Recurrent layers: MIL's own LSTM and plain RNN; GRU and projected LSTM frame by frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...ir.graph import Op, Value
from .constants import behind, constant
from .lower import lower

GATES = (0, 1, 3, 2)  # PyTorch's input, forget, cell, output as MIL's input, forget, output, cell
UNROLLED = 32  # frames: up to here the frames of a step are written out, beyond they are a loop


def _since(op: Op) -> int:
    return 17 if op.operands[0].type.dtype == "f16" else 15


def _backwards(e, x, axis: int, reverse: bool):
    return e.op("reverse", x=x, axes=[axis]) if reverse else x


def _native(e, kind: str, x: Value, states: dict, reverse: bool, **weights):
    """One MIL layer, forwards in time, around the transposes to time-major and back."""
    frames = _backwards(e, e.transpose(x, [1, 0, 2]), 0, reverse)
    made = e.op(kind, x=frames, **states, **weights, direction="forward", output_sequence=True)
    return (e.transpose(_backwards(e, made[0], 0, reverse), [1, 0, 2]), *made[1:])


@lower("lstm", since=_since)
def _(e, x, h, c, w, r, b, proj, *, reverse):
    if proj is not None:
        return _projected(e, x, h, c, w, r, b, proj, reverse)
    size = w.type.sizes[0] // 4
    rows = np.concatenate([np.arange(g * size, (g + 1) * size) for g in GATES])
    weights = {n: constant(e, v, "ifoz", rows) for n, v in (("weight_ih", w), ("weight_hh", r), ("bias", b)) if v}
    return _native(e, "lstm", x, {"initial_h": h, "initial_c": c}, reverse, **weights)


@lower("rnn", since=_since)
def _(e, x, h, w, r, b, *, relu, reverse):
    weights = {"weight_ih": w, "weight_hh": r, "bias": b, "activation": "relu" if relu else "tanh"}
    return _native(e, "rnn", x, {"initial_h": h}, reverse, **weights)


@lower("gru")
def _(e, x, h, w, r, b, rb, *, reverse):
    """MIL's `gru` has no place for the bias inside the reset gate, which PyTorch's layers have."""
    r, rb = e.value(r), None if rb is None else e.value(rb)
    one, dtype = e.number(1, x), x.type.dtype

    def step(frame, h):
        ar, az, an = _parts(e, frame, 3)
        sr, sz, sn = _parts(e, _product(e, h, r, rb), 3)
        reset, z = (e.op("sigmoid", x=e.op("add", x=p, y=q)) for p, q in ((ar, sr), (az, sz)))
        n = e.op("tanh", x=e.op("add", x=an, y=e.op("mul", x=reset, y=sn)))
        fresh = e.op("mul", x=e.op("sub", x=one, y=z), y=n)
        return (e.op("add", x=fresh, y=e.op("mul", x=z, y=h)),)

    return scan(e, x, _gates(e, x, w, b), (e.value(h),), h.type.sizes[1], step, reverse, dtype)


def _projected(e, x: Value, h: Value, c: Value, w, r, b, proj, reverse: bool):
    """An LSTM whose output is projected, which MIL's has no place for."""
    r, proj = e.value(r), e.value(proj)

    def step(frame, h, c):
        i, f, g, o = _parts(e, e.op("add", x=frame, y=_product(e, h, r)), 4)
        i, f, o = (e.op("sigmoid", x=gate) for gate in (i, f, o))
        new = e.op("mul", x=i, y=e.op("tanh", x=g))
        c = e.op("add", x=e.op("mul", x=f, y=c), y=new)
        return _product(e, e.op("mul", x=o, y=e.op("tanh", x=c)), proj), c

    carry = (e.value(h), e.value(c))
    return scan(e, x, _gates(e, x, w, b), carry, h.type.sizes[1], step, reverse, x.type.dtype)


def _gates(e, x: Value, w: Value, b: Value | None):
    """What the input adds to every gate, all frames at once: [B, T, gates]."""
    return e.op("linear", x=x, weight=w, bias=b)


def _product(e, x, w, b=None):
    y = e.op("matmul", x=x, y=w, transpose_y=True)
    return y if b is None else e.op("add", x=y, y=b)


def _parts(e, x, count: int) -> tuple:
    """The gates of a row [B, count * H]."""
    return e.op("split", x=x, num_splits=count, axis=1)


def scan(e, x: Value, gates, carry: tuple, width, step: Callable, reverse: bool, dtype: str) -> tuple:
    """Run `step(frame, *carry) -> carry` over the frames of gates [B, T, G]; y [B, T, width] and the last carry.

    A few frames are written out, which every processor of a device can run; many are a loop, which is the CPU's.
    """
    frames = x.type.sizes[1]
    if isinstance(frames, int) and frames <= UNROLLED:
        return _written_out(e, gates, carry, step, reverse, frames)
    return _loop(e, x, gates, carry, width, step, reverse, dtype)


def _written_out(e, gates, carry: tuple, step: Callable, reverse: bool, frames: int) -> tuple:
    made = [None] * frames
    for t in reversed(range(frames)) if reverse else range(frames):
        at = {"begin": [0, t, 0], "end": [0, t + 1, 0], "begin_mask": [True, False, True]}
        frame = e.op("slice_by_index", x=gates, **at, end_mask=[True, False, True], squeeze_mask=[False, True, False])
        carry = step(frame, *carry)
        made[t] = e.op("expand_dims", x=carry[0], axes=[1])
    return (made[0] if frames == 1 else e.op("concat", values=made, axis=1), *carry)


def _loop(e, x: Value, gates, carry: tuple, width, step: Callable, reverse: bool, dtype: str) -> tuple:
    """A while loop that writes each frame into its place; the results start as zeros."""
    batch, frames = x.type.sizes[:2]
    count = e.sizes.scalar(frames)
    last = e.op("sub", x=count, y=np.int32(1))
    by_time = e.transpose(gates, [1, 0, 2])
    stack = e.op("fill", shape=e.sizes.vector((frames, batch, width)), value=e.number(0, dtype))
    start = e.op("const", val=np.int32(0))

    def going(at, *_):
        return e.op("less", x=at, y=count)

    def body(at, stack, *carry):
        t = e.op("sub", x=last, y=at) if reverse else at
        carry = step(e.op("gather", x=by_time, indices=t, axis=0), *carry)
        index = e.op("expand_dims", x=t, axes=[0])
        row = e.op("expand_dims", x=carry[0], axes=[0])
        stack = e.op("scatter", data=stack, indices=index, updates=row, axis=0, mode="update")
        return (e.op("add", x=at, y=np.int32(1)), stack, *carry)

    e.looping = True
    try:
        _, stack, *carry = e.op("while_loop", _cond=going, _body=body, loop_vars=(start, stack, *carry))
    finally:
        e.looping = False
    return (e.transpose(stack, [1, 0, 2]), *carry)


def fixed(op: Op) -> bool:
    """Whether the weights of a recurrent layer are known."""
    weights = op.operands[3 if op.kind == "lstm" else 2 :]
    return all(v is None or behind(v) is not None for v in weights)

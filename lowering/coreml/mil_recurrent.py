"""MIL's recurrent ops: sequences are [T, B, I], weights are stacked by gate in MIL's own order.

Apple's descriptions are loose in four places; what stands here is what Apple's tests of the ops on devices expect
(coremltools/converters/mil/mil/ops/tests): the direction "reverse" gives its sequence in the order of its steps, the
last frame first, while a bidirectional LSTM's is in the order of time; a GRU resets the state *before* the product,
W_ho (r * h), unless `reset_after`; an LSTM's `clip` bounds the cell state; hard_sigmoid is 0.2 x + 0.5 and scaled_tanh
is tanh.
"""

from __future__ import annotations

import numpy as np

from .mil_elementwise import sigmoid
from .mil_table import Refused, mil

ACTIVATIONS = {
    "sigmoid": sigmoid, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "linear": lambda x: x,
    "scaled_tanh": np.tanh, "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "sigmoid_hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}  # fmt: skip


def _activation(name):
    if name.lower() not in ACTIVATIONS:
        raise Refused(f"the activation {name} is not one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name.lower()]


def _direction(name, *allowed):
    if name not in allowed:
        raise Refused(f"the direction {name} is not one of {', '.join(allowed)}")
    return name


def _scan(step, x, state, reverse):
    """All states in the order of the steps, and the last one."""
    found = []
    for frame in reversed(x) if reverse else x:
        state = step(frame, state)
        found.append(state)
    return found, state


@mil("lstm")
def lstm(
    x, initial_h, initial_c, weight_ih, weight_hh, bias=None, peephole=None, weight_ih_back=None, weight_hh_back=None,
    bias_back=None, peephole_back=None, direction="forward", output_sequence=False, recurrent_activation="sigmoid",
    cell_activation="tanh", activation="tanh", clip=None,
):  # fmt: skip
    """Gates i, f, o, z: weight_ih [4H, I], weight_hh [4H, H], bias [4H], peephole [3H] of i, f, o.

    initial_h, initial_c: [B, H], or [B, 2H] with the backward direction behind. Gives the sequence [T, B, H or 2H] (or
    [1, B, ...] of last states), the last h and the last c; a backward direction's last state is that at time 0.
    """
    _direction(direction, "forward", "reverse", "bidirectional")
    gate, cell, out = map(_activation, (recurrent_activation, cell_activation, activation))
    limit = np.inf if clip is None else clip

    def one(w, u, b, p, h, c, reverse):
        given = x @ w.T + (0 if b is None else b)
        pi, pf, po = np.split(p, 3) if p is not None else (0, 0, 0)

        def step(frame, state):
            h, c = state
            i, f, o, z = np.split(frame + h @ u.T, 4, axis=-1)
            c = np.clip(gate(f + pf * c) * c + gate(i + pi * c) * cell(z), -limit, limit)
            return gate(o + po * c) * out(c), c

        found, (h, c) = _scan(step, given, (h, c), reverse)
        return np.stack([s[0] for s in found]), h, c

    if direction != "bidirectional":
        y, h, c = one(weight_ih, weight_hh, bias, peephole, initial_h, initial_c, direction == "reverse")
    else:
        if weight_ih_back is None or weight_hh_back is None:
            raise Refused("a bidirectional LSTM needs weight_ih_back and weight_hh_back")
        (hf, hb), (cf, cb) = np.split(initial_h, 2, -1), np.split(initial_c, 2, -1)
        ahead = one(weight_ih, weight_hh, bias, peephole, hf, cf, False)
        back, hb, cb = one(weight_ih_back, weight_hh_back, bias_back, peephole_back, hb, cb, True)
        y, h, c = (np.concatenate(pair, -1) for pair in zip(ahead, (back[::-1], hb, cb)))
    return (y if output_sequence else h[None]), h, c


@mil("gru", later={"reset_after": 18, "input_bias": 18})
def gru(
    x, initial_h, weight_ih, weight_hh, bias=None, direction="forward", output_sequence=False,
    recurrent_activation="sigmoid", activation="tanh", reset_after=False, input_bias=None,
):  # fmt: skip
    """Gates r, o, z: weight_ih [3H, I], weight_hh [3H, H], bias [3H]. h' = (1 - z) o + z h.

    With `reset_after`, o = activation(W x + b_input + r (U h + b)); without, activation(W x + b + U (r h)).
    """
    _direction(direction, "forward", "reverse")
    gate, out = _activation(recurrent_activation), _activation(activation)
    size = weight_hh.shape[1]
    b = np.zeros(3 * size, x.dtype) if bias is None else bias
    given = x @ weight_ih.T + (0 if input_bias is None else input_bias)
    ur, uo, uz = np.split(weight_hh, 3)
    br, bo, bz = np.split(b, 3)

    def step(frame, h):
        xr, xo, xz = np.split(frame, 3, axis=-1)
        r, z = gate(xr + h @ ur.T + br), gate(xz + h @ uz.T + bz)
        o = out(xo + r * (h @ uo.T + bo)) if reset_after else out(xo + (r * h) @ uo.T + bo)
        return (1 - z) * o + z * h

    found, h = _scan(step, given, initial_h, direction == "reverse")
    return (np.stack(found) if output_sequence else h[None]), h


@mil("rnn")
def rnn(x, initial_h, weight_ih, weight_hh, bias=None, direction="forward", output_sequence=False, activation="tanh"):
    """h' = activation(W x + U h + b): weight_ih [H, I], weight_hh [H, H], bias [H]."""
    _direction(direction, "forward", "reverse")
    out, given = _activation(activation), x @ weight_ih.T + (0 if bias is None else bias)
    found, h = _scan(lambda frame, h: out(frame + h @ weight_hh.T), given, initial_h, direction == "reverse")
    return (np.stack(found) if output_sequence else h[None]), h

"""LSTM, GRU and RNN stacks: several layers, both directions, as one IR op a layer and direction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....ir.graph import Value
from ..table import TABLE, Context, aten


@aten("lstm.input")
def _(c, x, states, params, has_biases, layers, dropout, train, bidirectional, batch_first):
    h0, c0 = states
    projected = h0.type.sizes[-1] != c0.type.sizes[-1]

    def cell(x, at, p, reverse):
        w, r, b = _weights(c, p, has_biases)
        proj = p[-1] if projected else None
        return c.b.lstm(x, _state(c, h0, at), _state(c, c0, at), w, r, b, proj, reverse=reverse)

    per = 2 + 2 * has_biases + projected
    return _stack(c, cell, x, params, per, layers, train and dropout, bidirectional, batch_first)


@aten("gru.input")
def _(c, x, h0, params, has_biases, layers, dropout, train, bidirectional, batch_first):
    def cell(x, at, p, reverse):
        w, r, *biases = p
        return c.b.gru(x, _state(c, h0, at), w, r, *biases, reverse=reverse)

    return _stack(c, cell, x, params, 2 + 2 * has_biases, layers, train and dropout, bidirectional, batch_first)


@aten("rnn_tanh.input", "rnn_relu.input")
def _(c, x, h0, params, has_biases, layers, dropout, train, bidirectional, batch_first):
    relu = "relu" in str(c.node.target)

    def cell(x, at, p, reverse):
        w, r, b = _weights(c, p, has_biases)
        return c.b.rnn(x, _state(c, h0, at), w, r, b, relu=relu, reverse=reverse)

    return _stack(c, cell, x, params, 2 + 2 * has_biases, layers, train and dropout, bidirectional, batch_first)


# Export puts these in place of the above, so that time stays dynamic (see patches.py).
TABLE["speechc.lstm.default"] = lambda c, x, states, *rest: TABLE["aten.lstm.input"](c, x, states, *rest)
TABLE["speechc.gru.default"] = lambda c, x, states, *rest: TABLE["aten.gru.input"](c, x, states[0], *rest)
TABLE["speechc.rnn_tanh.default"] = lambda c, x, states, *rest: TABLE["aten.rnn_tanh.input"](c, x, states[0], *rest)
TABLE["speechc.rnn_relu.default"] = lambda c, x, states, *rest: TABLE["aten.rnn_relu.input"](c, x, states[0], *rest)


def _stack(c: Context, cell, x, params, per: int, layers: int, dropout, bidirectional: bool, batch_first: bool):
    """Run `cell` over layers and directions; gives (y, last states stacked over layers and directions, ...)."""
    if dropout:
        raise c.no("dropout is active", "call .eval() before exporting")
    if not batch_first:
        x = c.swapped(x, 0, 1)
    groups: Iterator = iter([params[i : i + per] for i in range(0, len(params), per)])
    last: list[tuple[Value, ...]] = []
    for _layer in range(layers):
        outs = []
        for reverse in (False, True)[: 1 + bidirectional]:
            y, *states = cell(x, len(last), next(groups), reverse)
            outs.append(y)
            last.append(tuple(states))
        x = c.concat(outs, 2)
    y = x if batch_first else c.swapped(x, 0, 1)
    return (y, *(c.concat([c.unsqueezed(s, 0) for s in each], 0) for each in zip(*last)))


def _state(c: Context, states: Value, at: int) -> Value:
    """Row `at` of states [layers, batch, features]."""
    op = states.op
    if op is not None and op.kind == "expand" and op.operands[0].kind == "const":
        return c.expand(op.operands[0], states.type.sizes[1:])
    return c.reshape(c.part(states, 0, at, at + 1), states.type.sizes[1:])


def _weights(c: Context, p, has_biases: bool) -> tuple[Value, Value, Value | None]:
    """Input weights, recurrent weights and the sum of both biases."""
    if not has_biases:
        return p[0], p[1], None
    w, r, b1, b2 = p[:4]
    if b1.known and b2.known:
        name = b1.name.replace("bias_ih", "bias")
        return w, r, c.derived(name, "add", [b1, b2], b1.type.sizes, b1.type.dtype, np.add)
    return w, r, c.b.add(b1, b2)

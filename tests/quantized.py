"""A small Conformer-like graph in the IR, with inputs, for the tests of quantization."""

from __future__ import annotations

import numpy as np
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Graph, Loc, Module, Value
from speechc.ir.interpreter import run
from speechc.ir.text import clone
from speechc.ir.types import Tensor, time_input
from speechc.ir.verifier import verify
from speechc.passes.base import Context, make

FEATURES, SIZE, HIDDEN = 20, 32, 64


def weight(graph: Graph, name: str, *shape: int) -> Value:
    """Random weights that keep the scale of what they multiply, every channel of another size."""
    rng = np.random.default_rng(sum(map(ord, name)))
    array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return graph.weight(name, (array * np.exp(rng.normal(0, 0.5, (shape[0], *[1] * (len(shape) - 1))))).astype("f4"))


def small_conformer() -> Module:
    """x [1, T, 20] -> two strided convs with relu, projection, one block, log-probabilities [1, (T+1)//4 - 1, 10]."""
    module = Module()
    g, t = module.graph("main"), symbol("T")
    x = g.input("x", Tensor("f32", (1, time_input(t, "frames"), FEATURES)))
    b = Builder(g, Loc("conv1"))
    w = lambda name, *shape: weight(g, name, *shape)
    two = {"stride": (2, 2), "dilation": (1, 1), "pad": ((0, 0), (0, 0))}
    y = b.relu(b.conv(b.reshape(x, shape=(1, 1, t, FEATURES)), w("c1", 24, 1, 3, 3), w("b1", 24), **two))
    b.loc = Loc("conv2")
    y = b.transpose(b.relu(b.conv(y, w("c2", 24, 24, 3, 3), w("b2", 24), **two)), perm=(0, 2, 1, 3))
    b.loc = Loc("project")
    n, width = y.type.sizes[1], y.type.sizes[2] * y.type.sizes[3]
    y = b.linear(b.reshape(y, shape=(1, n, width)), w("p", SIZE, width), w("pb", SIZE))
    b.loc = Loc("block.feed")
    h = b.linear(b.layer_norm(y), w("e", HIDDEN, SIZE), w("eb", HIDDEN))
    y = b.add(y, b.linear(b.mul(h, b.sigmoid(h)), w("k", SIZE, HIDDEN), w("kb", SIZE)))
    b.loc = Loc("block.conv")
    h = b.linear(b.layer_norm(y), w("g", 2 * SIZE, SIZE), w("gb", 2 * SIZE))
    a, gate = b.slice(h, axis=2, start=0, stop=SIZE), b.slice(h, axis=2, start=SIZE, stop=2 * SIZE)
    h = b.transpose(b.mul(a, b.sigmoid(gate)), perm=(0, 2, 1))
    h = b.conv(h, w("d", SIZE, 1, 17), w("db", SIZE), groups=SIZE, pad=((8, 8),))
    y = b.add(y, b.linear(b.transpose(b.silu(h), perm=(0, 2, 1)), w("o", SIZE, SIZE)))
    b.loc = Loc("output")
    g.output(b.log_softmax(b.linear(b.layer_norm(y), w("out", 10, SIZE)), axis=2), "y")
    return module


def inputs(length: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Random features, seeded by their length."""
    return {"x": scale * np.random.default_rng(length).standard_normal((1, length, FEATURES), dtype=np.float32)}


def applied(module: Module, *passes: str, samples=None, executor=None) -> tuple[Module, Context]:
    """A copy of `module` after `passes`, verified, and the context with its remarks."""
    after = clone(module)
    context = Context(executor, [inputs(60), inputs(91)] if samples is None else samples)
    for text in passes:
        make(text).run(after.main, context)
        verify(after)
    return after, context


def outputs(module: Module, length: int = 77) -> tuple[np.ndarray, ...]:
    """What the graph means for the inputs of one length."""
    return run(module.main, inputs(length))

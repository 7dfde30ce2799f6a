"""What tests of meaning-changing rewrites share: graphs from text, rewritten, and which frames an output sees."""

import numpy as np
from speechc.compiler.manager import evaluate64
from speechc.compiler.plan import NORMALIZE, OPTIMIZE
from speechc.compiler.step_runner import run_stream
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.text import clone, parse_module, retyped
from speechc.ir.types import Dim, Tensor, time_input
from speechc.ir.verifier import verify
from speechc.passes.base import Context, make

LENGTHS = (1, 3, 8, 16, 29)
TOLERANCE = 1e-10  # of the largest output, float64 summed in another order


def rewritten(module, *texts, samples=()):
    """A verified copy after these passes, and their remarks."""
    module, context = clone(module), Context(samples=list(samples))
    for text in texts:
        make(text).run(module.main, context)
        module.main.sweep()
        verify(module)
    return module, context.remarks


def filled(text):
    """A graph from its text, its weights random."""
    module = parse_module(text)
    for i, w in enumerate(module.weights):
        array = np.random.default_rng(i).uniform(-1, 1, w.type.sizes).astype(np.float32)
        w._load, w._digest = lambda array=array: array, None
    return module


def built(shape, build):
    """A graph of one input x: f32, `shape` with "T" for time, and what `build(b, x)` makes of it."""
    module = Module()
    graph = module.graph("main")
    dims = [time_input(symbol("T"), "audio") if s == "T" else Dim(s) for s in shape]
    b = Builder(graph, Loc("net.layer", "Layer", "net.py:1"))
    graph.output(build(b, graph.input("x", Tensor("f32", dims))), "y")
    return module


def assert_streams(module, *texts, chunk):
    """What the passes make can be streamed: the steps give the whole, at every length."""
    whole, _ = rewritten(module, *NORMALIZE, *texts, *OPTIMIZE)
    whole = retyped(whole)
    step, _ = rewritten(whole, f"streaming{{chunk={chunk}}}")
    for length in LENGTHS:
        feeds = {name: a.astype(np.float64) for name, a in feeds_of(whole, length).items()}
        for got, want in zip(run_stream(step.main, feeds), run(whole.main, feeds), strict=True):
            assert got.shape == want.shape
            assert np.abs(got - want).max() <= TOLERANCE * max(1.0, np.abs(want).max())  # inputs are of unit size


def value_of(module, name):
    return module.weights[name].array.astype(np.float64)


def assert_close(got, want, tolerance=TOLERANCE):
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * max(1e-30, np.abs(want).max())


def feeds_of(module, length, seed=0):
    """Random inputs, every symbolic size `length`."""
    random = np.random.default_rng(seed)
    shape = lambda v: [s if isinstance(s, int) else length for s in v.type.sizes]
    return {v.name: random.standard_normal(shape(v)).astype(np.float32) for v in module.main.inputs}


def support(module, feeds, name, axis, out_axis=None):
    """sees[i, j]: whether frame i of the first output moves with frame j of input `name`."""
    base = evaluate64(module, feeds)[0]
    out_axis = axis if out_axis is None else out_axis
    sees = np.zeros((base.shape[out_axis], feeds[name].shape[axis]), bool)
    for j in range(sees.shape[1]):
        moved = feeds[name].copy()
        moved[(slice(None),) * axis + (j,)] += 1.0
        delta = np.abs(evaluate64(module, {**feeds, name: moved})[0] - base)
        sees[:, j] = np.moveaxis(delta, out_axis, 0).reshape(sees.shape[0], -1).max(1) > 1e-9
    return sees

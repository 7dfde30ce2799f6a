"""The loss of a rewrite is measured on more than the context that it leaves, however short the sample is."""

from types import SimpleNamespace

import numpy as np
from speechc.compiler.check_stream import loss_feeds, rewrite_loss
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Module
from speechc.ir.interpreter import run as interpret
from speechc.ir.types import Tensor, time_input

KERNEL = np.random.default_rng(0).standard_normal((1, 1, 41)).astype(np.float32)


def past(taps):
    """A causal convolution with the last `taps` of the weights: that many frames of context."""
    module = Module()
    g = module.graph("main")
    b = Builder(g)
    x = g.input("x", Tensor("f32", [1, 1, time_input(symbol("T"), "audio")]))
    w = g.weight("w", KERNEL[:, :, -taps:].copy())
    y = b.conv(x, w, None, pad=((taps - 1, 0),), stride=(1,), dilation=(1,))
    g.output(y, "y")
    return module


def test_a_sample_shorter_than_the_context():
    model, limited = past(41), past(21)
    stages = SimpleNamespace(normal=model, rewritten=limited, whole=limited)
    x = lambda frames: np.random.default_rng(frames).standard_normal((1, 1, frames)).astype(np.float32)
    reference = lambda feeds: interpret(model.main, feeds)
    short, fed = [{"x": x(20)}], [{"x": x(100)}, {"x": x(5)}]
    loss = lambda feeds: rewrite_loss(reference, stages, feeds, interpret)
    assert loss(short).snr > 100  # nothing is limited in so few frames
    tried = loss_feeds(short, fed, stages)
    assert [f["x"].shape[2] for f in tried] == [20, 100, 5]
    assert loss(tried).snr < 10  # half of the weights are missing
    stages.whole = None  # a file for whole utterances
    assert loss_feeds(short, [], stages) == short

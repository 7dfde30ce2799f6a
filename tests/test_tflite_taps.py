"""Depthwise convolutions of a step, in TFLite: no kernel reads the frames behind its window."""

from __future__ import annotations

import numpy as np
import pytest
from speechc.compiler.step_runner import run_stream
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run as interpret
from speechc.ir.text import clone
from speechc.ir.types import Tensor, time_input
from speechc.lowering.tflite import taps
from speechc.lowering.tflite.write import build
from speechc.passes.base import Context, make
from stream_proof import distance, runner

T = symbol("T")
RNG = np.random.default_rng(3)
# (taps, dilation, frames in front): with 3, 4, 9 and 25 taps LiteRT has a kernel for just these.
LINES = [
    (1, 1, 0), (2, 1, 1), (3, 1, 2), (5, 1, 4), (5, 1, 0), (8, 1, 7), (11, 2, 20), (15, 1, 14), (20, 1, 0), (28, 1, 27)
]  # fmt: skip
GRIDS = [(2, 1), (2, 2), (3, 5), (5, 5), (5, 2)]


def lines(b: Builder, x, channels: int):
    """Outputs of convolutions of [1, C, T], every channel by itself."""
    for n, (k, d, p) in enumerate(LINES):
        w = b.weight(f"w{n}", RNG.standard_normal((channels, 1, k)).astype("f"))
        bias = b.weight(f"b{n}", RNG.standard_normal(channels).astype("f"))
        yield b.relu(b.conv(x, w, bias, pad=((p, 0),), dilation=(d,), groups=channels))
    w = b.weight("strided", RNG.standard_normal((channels, 1, 5)).astype("f"))
    yield b.conv(x, w, None, pad=((3, 0),), stride=(2,), groups=channels)
    w = b.weight("back", RNG.standard_normal((channels, 1, 2)).astype("f"))
    yield b.conv_transpose(x, w, None, pad=((0, 1),), groups=channels)


def grids(b: Builder, x, channels: int):
    """Outputs of convolutions of [1, T, 6 C] over time and frequency."""
    x = b.transpose(b.reshape(x, shape=(1, T, channels, 6)), perm=(0, 2, 1, 3))
    for n, (k, f) in enumerate(GRIDS):
        w = b.weight(f"w{n}", RNG.standard_normal((channels, 1, k, f)).astype("f"))
        yield b.conv(x, w, None, pad=((k - 1, 0), (f - 1, 0)), stride=(1, 1), dilation=(1, 1), groups=channels)


def module_of(outputs, channels: int) -> Module:
    """A graph of `outputs` of x f32[1, channels, T], for `grids` f32[1, T, 6 channels]."""
    module = Module()
    graph = module.graph("main")
    time = time_input(T, "audio")
    x = graph.input("x", Tensor("f32", [1, channels, time] if outputs is lines else [1, time, 6 * channels]))
    for n, y in enumerate(outputs(Builder(graph, Loc("m")), x, channels)):
        graph.output(y, f"y{n}")
    return module


@pytest.mark.parametrize(("outputs", "channels"), [(lines, 3), (lines, 1), (grids, 2)])
def test_garbage_behind_the_end_stays_there(outputs, channels, tmp_path):
    pytest.importorskip("ai_edge_litert")
    whole = module_of(outputs, channels)
    step = clone(whole)
    make("streaming{chunk=8}").run(step.main, Context())
    _, run = runner("tflite", step, tmp_path)
    sizes = [29 if d.time else d.size for d in whole.main.inputs[0].type.shape]
    x = RNG.standard_normal(sizes).astype("f")
    got = run_stream(step.main, {"x": x}, run=run, tail=np.nan)
    for name, a, b in zip(whole.main.output_names, got, interpret(whole.main, {"x": x}), strict=True):
        assert distance(a, b) < 1e-5, name  # sums of 28 products in another order


def test_parts_stay_inside_the_kernel_and_cover_it():
    for kernel in [(1, n) for n in range(1, 61)] + [(n, 1) for n in range(2, 26)] + list(np.ndindex(7, 7))[8:]:
        covered = np.zeros(kernel, int)
        for row, column, high, wide in taps.parts(kernel):
            assert high * wide in taps.KERNELS or np.prod(kernel) <= 2, kernel
            assert row + high <= kernel[0] and column + wide <= kernel[1], kernel
            covered[row : row + high, column : column + wide] += 1
        assert covered.min(initial=1) == 1, kernel


def test_a_whole_needs_no_parts():
    """Nothing lies behind the end of a whole input: one kernel, up to 25 taps."""
    module = module_of(lines, 3)
    make("channels-last").run(module.main, Context())
    file, _ = build({"main": module.main})
    names = [t.name for t in file.subgraphs[0].tensors]
    assert {str(n).split("/")[0] for n in names if "taps" in str(n)} == {"w9"}

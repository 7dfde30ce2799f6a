"""Step graphs run chunk by chunk give the whole: in the interpreter and in sessions on files."""

import numpy as np
import pytest
from models.steps import causal, late
from speechc.compiler.step_runner import run_stream
from speechc.ir.errors import NumericalError
from speechc.ir.interpreter import run as interpret
from speechc.ir.verifier import verify

CASES = {"causal": causal, "late": late}
# One float32 convolution, summed in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def sample(frames, batch=1, seed=1):
    return np.random.default_rng(seed).standard_normal((batch, 3, frames)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 11, 30])
def test_the_interpreter_gives_the_whole(name, frames):
    whole, step = CASES[name](chunk=4)
    verify(whole)
    verify(step)
    x = sample(frames)
    expected = interpret(whole.main, {"x": x})
    for tail in (np.nan, np.inf, 1e4):
        streamed = run_stream(step.main, {"x": x}, tail=tail)
        assert len(streamed) == len(expected)
        for a, b in zip(streamed, expected):
            np.testing.assert_allclose(a, b, **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_streams_of_unlike_length_in_one_batch(name):
    lengths = [9, 3, 16]
    whole, _ = CASES[name]()
    _, step = CASES[name](batch=3)
    x = sample(16, batch=3)
    streams = run_stream(step.main, {"x": x}, lengths=lengths)
    for i, n in enumerate(lengths):
        for a, b in zip(streams[i], interpret(whole.main, {"x": x[i : i + 1, :, :n]}), strict=True):
            np.testing.assert_allclose(a, b, **CLOSE)


def test_a_range_that_is_wrong_is_found_out():
    _, step = late()
    wrong = lambda graph, feeds, states: [
        a + (a.dtype == np.int32) * np.int32([[0, -1]]) if a.dtype == np.int32 else a
        for a in interpret(graph, feeds, states)
    ]
    with pytest.raises(NumericalError, match="frames"):
        run_stream(step.main, {"x": sample(9)}, run=wrong)

"""Streaming flags and durations: what they mean in frames, and the passes that they become."""

from fractions import Fraction

import pytest
from speechc.compiler.durations import duration_text, tick_rate, ticks
from speechc.compiler.streaming import Streaming, rewrites, step_pass
from speechc.ir.errors import UsageError
from speechc.ir.expr import symbol
from speechc.ir.graph import Module
from speechc.ir.types import Tensor, time_input


@pytest.mark.parametrize(
    ("text", "hz", "expected"),
    [("320ms", 8000, 2560), ("2.5s", 8000, 20000), ("0.125 ms", 8000, 1), ("12 frames", None, 12), ("1 frame", None, 1),
     ("12", None, 12), (12, None, 12), ("0ms", None, 0), ("40ms", 100, 4), ("100 samples", None, 100),
     ("10ms", 44100, 441)],
)  # fmt: skip
def test_durations(text, hz, expected):
    assert ticks(text, hz and Fraction(hz), "--stream") == expected


@pytest.mark.parametrize(
    ("text", "hz", "code", "words"),
    [("soon", 8000, "SC047", "soon"), ("-5ms", 8000, "SC047", "-5ms"), ("3 minutes", 8000, "SC047", "3 minutes"),
     ("", 8000, "SC047", "''"), ("320ms", None, "SC048", "--frame-shift"), ("15ms", 100, "SC049", "10ms or 20ms"),
     ("1ms", 44100, "SC049", "44.1 frames"), ("2.5 frames", 100, "SC049", "2 frames or 3 frames")],
)  # fmt: skip
def test_durations_that_are_none(text, hz, code, words):
    with pytest.raises(UsageError) as error:
        ticks(text, hz and Fraction(hz), "--stream")
    assert error.value.code == code and words in str(error.value)


@pytest.mark.parametrize(("n", "hz", "text"), [(2560, 8000, "320ms"), (160000, 8000, "20s"), (1, None, "1 frame"),
                                               (3, 44100, "3 frames"), (4, None, "4 frames")])  # fmt: skip
def test_ticks_as_text(n, hz, text):
    assert duration_text(n, hz and Fraction(hz)) == text


def with_input(*shape, **meta) -> Module:
    module = Module(meta=meta)
    module.graph("main").input("x", Tensor("f32", shape))
    return module


def test_the_rate_of_ticks():
    t = time_input(symbol("T"), "audio")
    assert tick_rate(with_input(1, t, sample_rate=8000)) == 8000
    assert tick_rate(with_input(1, t), 16000) == 16000
    assert tick_rate(with_input(1, 1, t, sample_rate=8000)) == 8000
    assert tick_rate(with_input(1, 80, t, sample_rate=8000)) is None  # features: the rate is that of their audio
    assert tick_rate(with_input(1, 80, t, sample_rate=8000), None, "10ms") == 100
    assert tick_rate(with_input(1, 80, t, tick_hz=50)) == 50
    with pytest.raises(UsageError, match="frame-shift"):
        tick_rate(with_input(1, 80, t), None, "10 frames")


HZ = Fraction(100)


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({}, []),
        ({"attention": "chunk:640ms"}, ["limit-attention{chunk=64, left=-1, right=0}"]),
        ({"attention": "chunk:64,left=2560ms,right=64"}, ["limit-attention{chunk=64, left=256, right=64}"]),
        ({"attention": "chunk:chunk=640ms", "left_context": "1.28s"}, ["limit-attention{chunk=64, left=128, right=0}"]),
        ({"attention": "window:left=1s,right=0ms"}, ["limit-attention{window=True, left=100, right=0}"]),
        ({"left_context": "1s"}, ["limit-attention{left=100, only_left=True}"]),
        ({"conv": "delay"}, []),
        ({"conv": "causal"}, ["conv-context{mode='causal'}"]),
        ({"conv": "chunk", "stream": "320ms"}, ["conv-context{mode='chunk', chunk=32}"]),
        ({"conv": "chunk", "stream": "320ms", "attention": "chunk:640ms"},
         ["limit-attention{chunk=64, left=-1, right=0}", "conv-context{mode='chunk', chunk=64}"]),
        ({"conv": "chunk:160ms", "stream": "320ms"}, ["conv-context{mode='chunk', chunk=16}"]),
        ({"bidirectional": "forward"}, ["bidirectional{mode='forward'}"]),
        ({"bidirectional": "latency-controlled:chunk=400ms,right=200ms"},
         ["bidirectional{mode='latency-controlled', chunk=40, right=20}"]),
        ({"bidirectional": "latency-controlled", "stream": "320ms"},
         ["bidirectional{mode='latency-controlled', chunk=32, right=32}"]),
        ({"normalise": "cumulative"}, ["normalise{mode='cumulative'}"]),
        ({"normalise": "window:3s"}, ["normalise{mode='window', frames=300}"]),
    ],
)  # fmt: skip
def test_flags_as_passes(settings, passes):
    assert rewrites(Streaming(**settings), HZ) == passes


def test_the_streaming_pass():
    assert step_pass(Streaming("320ms"), HZ) == "streaming{chunk=32, batch=0, cache='speed'}"
    assert step_pass(Streaming(32, batch=4, cache="memory"), None) == "streaming{chunk=32, batch=4, cache='memory'}"

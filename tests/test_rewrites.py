"""Rewrites that change the meaning: each is what its definition says, at every length, and sees no further.

The references are written down directly in numpy or PyTorch, frame by frame; outputs are compared in float64.
"""

from pathlib import Path

import numpy as np
import pytest
from speechc.compiler.manager import evaluate64
from speechc.ir.errors import UnsupportedError, UsageError
from speechc.ir.text import clone, parse_module
from speechc.ir.verifier import verify
from speechc.passes.base import Context, make

LENGTHS = (1, 3, 8, 16, 29)
TOLERANCE = 1e-10  # of the largest output, float64 summed in another order
EXAMPLE = Path(__file__).parent.parent / "examples" / "digits" / "model.py"


def rewritten(module, *texts, samples=()):
    """A verified copy after these passes, and their remarks."""
    module, context = clone(module), Context(samples=list(samples))
    for text in texts:
        make(text).run(module.main, context)
        module.main.sweep()
        verify(module)
    return module, context.remarks


def assert_close(got, want, tolerance=TOLERANCE):
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * max(1e-30, np.abs(want).max())


def feeds_of(module, length, seed=0):
    """Random inputs, every symbolic size `length`."""
    random = np.random.default_rng(seed)
    shape = lambda v: [s if isinstance(s, int) else length for s in v.type.sizes]
    return {v.name: random.standard_normal(shape(v)).astype(np.float32) for v in module.main.inputs}


def reach(module, feeds, name, axis, out_axis=None):
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


# -- limit-attention -----------------------------------------------------------------------------------------------
ATTENTION = """speechc 1
graph main(%q: f32[1, 2, T@audio, 4], %k: f32[1, 2, T@audio, 4], %v: f32[1, 2, T@audio, 4]) {
  %0 = attention(%q, %k, %v, none, scale=0.5, causal=false) : f32[1, 2, T@audio, 4] @"net.attention" Attention net.py:1
  return %0 as "y"
}
"""
SPELLED = """speechc 1
graph main(%q: f32[1, 2, T@audio, 4], %k: f32[1, 2, T@audio, 4], %v: f32[1, 2, T@audio, 4]) {
  %0 = transpose(%k, perm=[0, 1, 3, 2]) : f32[1, 2, 4, T@audio] @"net.attention" Attention net.py:1
  %1 = matmul(%q, %0) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %2 = mul(%1, f32(0.5)) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %3 = softmax(%2, axis=3) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %4 = matmul(%3, %v) : f32[1, 2, T@audio, 4] @"net.attention" Attention net.py:1
  return %4 as "y"
}
"""
KEYS_FIRST = """speechc 1
graph main(%q: f32[1, 2, T@audio, 4], %k: f32[1, 2, T@audio, 4], %v: f32[1, 2, T@audio, 4]) {
  %0 = transpose(%q, perm=[0, 1, 3, 2]) : f32[1, 2, 4, T@audio] @"net.attention" Attention net.py:1
  %1 = matmul(%k, %0) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %2 = mul(%1, f32(0.5)) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %3 = transpose(%2, perm=[0, 2, 1, 3]) : f32[1, T@audio, 2, T@audio] @"net.attention" Attention net.py:1
  %4 = softmax(%3, axis=1) : f32[1, T@audio, 2, T@audio] @"net.attention" Attention net.py:1
  %5 = transpose(%4, perm=[0, 2, 3, 1]) : f32[1, 2, T@audio, T@audio] @"net.attention" Attention net.py:1
  %6 = matmul(%5, %v) : f32[1, 2, T@audio, 4] @"net.attention" Attention net.py:1
  return %6 as "y"
}
"""
BANDS = [
    ("limit-attention{chunk=4, left=8}", lambda i, j: -8 <= j // 4 * 4 - i // 4 * 4 <= 0),
    ("limit-attention{chunk=4}", lambda i, j: j // 4 <= i // 4),
    ("limit-attention{chunk=3, left=3, right=6}", lambda i, j: -1 <= j // 3 - i // 3 <= 2),
    ("limit-attention{window=True, left=5, right=2}", lambda i, j: -5 <= j - i <= 2),
    ("limit-attention{window=True}", lambda i, j: j <= i),
    ("limit-attention{only_left=True, left=6}", lambda i, j: j >= i - 6),
]


def attended(feeds, band):
    q, k, v = (feeds[n].astype(np.float64) for n in "qkv")
    scores = 0.5 * q @ np.swapaxes(k, -1, -2)
    n = scores.shape[-1]
    sees = np.array([[band(i, j) for j in range(n)] for i in range(n)])
    weights = np.where(sees, np.exp(scores), 0)
    return weights / weights.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("source", [ATTENTION, SPELLED, KEYS_FIRST], ids=["op", "spelled", "keys first"])
@pytest.mark.parametrize("text, band", BANDS, ids=[t for t, _ in BANDS])
def test_attention_sees_its_band(text, band, source):
    module, remarks = rewritten(parse_module(source), text)
    assert [r.kind for r in remarks] == ["applied"]
    for length in LENGTHS:
        feeds = feeds_of(module, length)
        assert_close(evaluate64(module, feeds)[0], attended(feeds, band))


def test_attention_sees_no_further_and_no_less():
    module, _ = rewritten(parse_module(ATTENTION), "limit-attention{chunk=4, left=4}")
    sees = reach(module, feeds_of(module, 11), "v", 2)
    assert (sees == [[-1 <= j // 4 - i // 4 <= 0 for j in range(11)] for i in range(11)]).all()
    assert reach(parse_module(ATTENTION), feeds_of(module, 11), "v", 2).all()


@pytest.mark.parametrize("text, band", BANDS, ids=[t for t, _ in BANDS])
def test_spelled_attention_is_still_recognised(text, band):
    module, _ = rewritten(parse_module(SPELLED), text, "recognise-attention")
    assert [op.kind for op in module.main.ops if op.kind in ("softmax", "attention")] == ["attention"]
    feeds = feeds_of(module, 13)
    assert_close(evaluate64(module, feeds)[0], attended(feeds, band))


@pytest.mark.parametrize("kind", ["bool", "f32"])
def test_a_mask_of_the_model_stays(kind):
    text = ATTENTION.replace("%v: f32[1, 2, T@audio, 4])", f"%v: f32[1, 2, T@audio, 4], %m: {kind}[1, 1, 1, T@audio])")
    before = parse_module(text.replace("none", "%m"))
    after, _ = rewritten(before, "limit-attention{chunk=4, left=4}")
    feeds = feeds_of(before, 11)
    hidden = feeds["m"] > 0.7
    feeds["m"] = ~hidden if kind == "bool" else np.where(hidden, -np.inf, feeds["m"]).astype(np.float32)
    got = evaluate64(after, feeds)[0]
    bias = np.where(hidden, -np.inf, 0 if kind == "bool" else feeds["m"])[0, 0, 0].astype(np.float64)
    q, k, v = (feeds[n].astype(np.float64) for n in "qkv")
    n = 11
    sees = np.array([[-1 <= j // 4 - i // 4 <= 0 for j in range(n)] for i in range(n)])
    weights = np.where(sees, np.exp(0.5 * q @ np.swapaxes(k, -1, -2) + bias), 0)
    total = weights.sum(-1, keepdims=True)
    assert_close(got, weights / np.where(total == 0, 1, total) @ v)


def test_durations_follow_the_rate():
    text = ATTENTION.replace("T@audio", "T@audio(1/4)")
    module, _ = rewritten(parse_module(text), "limit-attention{chunk=16, left=32}")
    assert [op.operands[1].payload for op in module.main.ops if op.kind == "floor_div"] == [4]
    for wrong, hint in [("chunk=6", "a multiple of 4 ticks"), ("chunk=16, left=24", "a multiple of 16 ticks")]:
        with pytest.raises(UnsupportedError, match="SC212") as error:
            rewritten(parse_module(text), f"limit-attention{{{wrong}}}")
        assert "net.attention" in str(error.value) and hint in str(error.value)
    with pytest.raises(UsageError, match="SC020"):
        rewritten(parse_module(text), "limit-attention{chunk=0}")

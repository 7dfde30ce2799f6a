"""The references of the rewrites notice: each rule broken on purpose makes one of their tests fail."""

import pytest
import test_rewrites as plain
import test_rewrites_normalise as normalise_tests
import test_rewrites_recurrent as recurrent
from speechc.passes import bidirectional, conv_context, limit_attention, normalise, spread


def banded(text, source):
    return lambda: plain.test_attention_sees_its_band(text, dict(plain.BANDS)[text], source)


def statistic(name, mode):
    return lambda: normalise_tests.test_statistics_run(name, mode)


def chunked(name):
    return lambda: recurrent.test_chunks_start_from_what_follows_them(name, *recurrent.BOUNDS[0])


# (the rule broken, where, its name, what stands in for it, the test that fails)
MUTATIONS = [
    ("a chunk too far back", limit_attention, "chunks_of", lambda f: lambda *a: f(*a) + 1,
     banded("limit-attention{chunk=4, left=8}", plain.ATTENTION)),
    ("a frame too far ahead", limit_attention, "frames_of", lambda f: lambda t, *a: f(t, *a) + (t == 2),
     banded("limit-attention{window=True, left=5, right=2}", plain.SPELLED)),
    ("scores outside stay", limit_attention, "_hidden", lambda f: lambda g, band, scores: scores,
     banded("limit-attention{window=True}", plain.SPELLED)),
    ("padding stays on the right", conv_context, "with_pad", lambda f: lambda op, at, pad: f(op, at, pad[::-1]),
     lambda: plain.test_convolutions_see_less("causal", {})),
    ("a chunk of another size", conv_context, "frames_of", lambda f: lambda *a: f(*a) + 1,
     lambda: plain.test_convolutions_see_less("chunk", {})),
    ("a crop forgotten", conv_context, "_cropped", lambda f: lambda op, window: (op, window.pad[1]),
     lambda: plain.test_convolutions_see_less("causal", {"taps": 4, "pad": (2, 2), "crop": 1})),
    ("other axes forgotten", normalise, "_within", lambda f: lambda g, kind, x, axes, at: x,
     statistic("group norm", "cumulative")),
    ("a window of another size", normalise, "frames_of", lambda f: lambda *a: f(*a) + 1,
     statistic("excitation", "window")),
    ("a variance of running means", normalise, "_deviation", lambda f: lambda op: None,
     statistic("cmvn", "cumulative")),
    ("weights by the count after", spread.Region, "_counted", lambda f: lambda self, g, v: v,
     statistic("cmvn, unbiased", "cumulative")),
    ("the end moves the carry", bidirectional, "_holding", lambda f: lambda *a: False, chunked("lstm")),
    ("the end moves the carry", bidirectional, "_holding", lambda f: lambda *a: False, chunked("gru")),
    ("a chunk of another size", bidirectional, "frames_of", lambda f: lambda t, *a: f(t, *a) + (t == 4),
     chunked("rnn")),
]  # fmt: skip


@pytest.mark.parametrize("rule, owner, name, instead, run", MUTATIONS, ids=[f"{m[2]}: {m[0]}" for m in MUTATIONS])
def test_a_broken_rule_is_noticed(rule, owner, name, instead, run, monkeypatch):
    monkeypatch.setattr(owner, name, instead(getattr(owner, name)))
    with pytest.raises(AssertionError):
        run()

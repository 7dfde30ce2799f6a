"""Detections out of scores: two thresholds, shortest lengths, gaps and margins, against Silero's own definition."""

from importlib.util import find_spec

import numpy as np
import pytest
from speechc.compiler.spans import Rule, Spans
from speechc.ir.errors import UsageError

FRAME = 0.032


def spans(scores, frame=FRAME, **about):
    found = Spans(Rule.of(about), frame)
    for score in scores:
        found.add(score)
    return [(round(s.start, 6), round(s.end, 6), s.going) for s in found.told()]


def frames(*pairs):
    return [(round(a * FRAME, 6), round(b * FRAME, 6), going) for a, b, going in pairs]


def test_one_threshold_ends_at_once():
    assert spans([0.1, 0.5, 0.9, 0.4, 0.6]) == frames((1, 3, False), (4, 5, True))


def test_release_keeps_what_is_between():
    assert spans([0.9, 0.4, 0.9, 0.2, 0.9], release=0.3) == frames((0, 3, False), (4, 5, True))


def test_gap_is_bridged_and_not_counted():
    """64 ms are two frames: silence of one is bridged; two end it, where they began."""
    assert spans([0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.9], gap_ms=64) == frames((0, 3, False), (6, 7, True))


def test_short_ones_are_left_out():
    """Not longer than 64 ms: two frames are too short; one that goes on is told once it is long."""
    scores = [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9]
    assert spans(scores, least_ms=64) == frames((3, 6, False))
    assert spans([*scores, 0.9], least_ms=64) == frames((3, 6, False), (7, 10, True))


def test_margins_share_what_is_between():
    assert spans([0, 0, 0.9, 0, 0.9, 0, 0, 0, 0, 0.9, 0], margin_ms=32) == frames(
        (1, 3.5, False), (3.5, 6, False), (8, 11, False)
    )
    assert spans([0.9, 0], margin_ms=32) == frames((0, 2, False))


def test_smooth_is_the_mean_of_the_last():
    assert spans([0.9, 0, 0, 0.6, 0.6, 0.6, 0], smooth=3, threshold=0.5) == frames((0, 1, False), (5, 6, False))


def test_what_is_new_is_said():
    found = Spans(Rule.of({"least_ms": 32, "gap_ms": 32}), FRAME)
    assert [found.add(s) for s in (0, 0.9, 0.9, 0.9, 0, 0, 0.9, 0, 0)] == [0, 0, 1, 0, 0, 1, 0, 0, 0]


def test_the_end_of_a_recording_counts_as_long():
    """Two frames and one of silence, which may be a gap: too short while it goes on, but not at the end."""
    found = Spans(Rule.of({"least_ms": 64, "gap_ms": 64}), FRAME)
    for score in (0.9, 0.9, 0.1):
        found.add(score)
    assert found.told() == []
    found.close()
    assert [(s.start, s.end) for s in found.told()] == [(0, 3 * FRAME)]


@pytest.mark.parametrize(
    "about",
    [{"like": "nobody"}, {"like": []}, {"threshold": "high"}, {"threshold": float("nan")}, {"release": 0.6},
     {"smooth": 0}, {"smooth": 1.5}, {"gap_ms": -1}],
)  # fmt: skip
def test_rules_that_cannot_be(about):
    with pytest.raises(UsageError) as error:
        Rule.of(about)
    assert error.value.code == "SC090"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_like_silero(seed):
    """Its get_speech_timestamps, on random scores; it rounds to samples."""
    if find_spec("silero_vad") is None:
        pytest.skip("Silero VAD is not installed: pip install --no-deps silero-vad")
    from silero_vad.utils_vad import get_speech_timestamps_from_probs

    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.2, 400) + np.where(rng.random(400) < 0.1, rng.normal(0, 0.6, 400), 0)
    scores = [0.5]
    for step in steps:
        scores.append(float(np.clip(scores[-1] + step, 0, 1)))
    margin, gap = [(30, 100), (100, 100), (60, 40)][seed % 3]
    theirs = get_speech_timestamps_from_probs(scores, speech_pad_ms=margin, min_silence_duration_ms=gap)
    found = Spans(Rule.of({"like": "silero", "margin_ms": margin, "gap_ms": gap}), FRAME)
    for score in scores:
        found.add(score)
    end = len(scores) * FRAME
    found.close()
    ours = [(s.start * 16000, min(s.end, end) * 16000) for s in found.told()]
    assert len(theirs) == len(ours) > 3
    np.testing.assert_allclose([(t["start"], t["end"]) for t in theirs], ours, atol=1.01)

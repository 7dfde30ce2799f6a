"""Word errors on files that do not take every length: silence behind a recording, or a count of those left out."""

import pytest
from speechc.compiler.audio_port import taken
from speechc.compiler.words import WordErrors
from speechc.lowering.manifest import Manifest

FEW = [8, 12, 20]  # T; the file takes 2T - 4 frames: 12, 20 or 36


@pytest.mark.parametrize(
    ("frames", "limits", "lengths", "expected"),
    [
        (7, [1, None], [], 7),
        (7, [10, 20], [], 16),
        (30, [10, 20], [], 30),
        (37, [10, 20], [], None),
        (30, [1, None], FEW, 36),
        (36, [1, None], FEW, 36),
        (37, [1, None], FEW, None),
    ],
)
def test_recordings_of_other_lengths(frames, limits, lengths, expected):
    manifest = Manifest(
        "", "coreml", "float32", [], [], limits={"T": limits}, lengths={"T": lengths} if lengths else {}
    )
    assert taken(frames, manifest, "2*T - 4") == expected
    assert taken(frames, manifest, 99) == frames


def test_what_is_left_out_is_said():
    assert "left out: 2 too long, 1 empty" in str(WordErrors({"file": 0.0}, 9, 3, {"too long": 2, "empty": 1}))
    assert "all 5 recordings are left out: 5 too long" in str(WordErrors({}, 0, 0, {"too long": 5}))
    assert "left out" not in str(WordErrors({"file": 0.0}, 9, 3))

"""onnxsim, an independent simplifier, as a second opinion on our ONNX files: same numbers, little left to remove."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import speechc

ROOT = Path(speechc.__file__).parent


@pytest.mark.slow
def test_onnxsim_finds_little_and_changes_nothing(tmp_path):
    onnx = pytest.importorskip("onnx")
    onnxsim = pytest.importorskip("onnxsim", reason="onnxsim is a peer: pip install 'speechc[peers]'")
    import onnxruntime

    artifact = speechc.compile(ROOT / "examples" / "digits" / "model.pt", output=tmp_path)
    ours = onnx.load(artifact.path)
    simplified, ok = onnxsim.simplify(ours)
    assert ok
    left, right = Counter(n.op_type for n in ours.graph.node), Counter(n.op_type for n in simplified.graph.node)
    assert sum(left.values()) <= 1.1 * sum(right.values()), f"onnxsim removes {left - right}"
    session = onnxruntime.InferenceSession(simplified.SerializeToString(), providers=["CPUExecutionProvider"])
    for samples in (8000, 12345):
        audio = np.random.default_rng(samples).standard_normal((1, samples)).astype(np.float32) * 0.1
        np.testing.assert_allclose(session.run(None, {"audio": audio})[0], artifact.run(audio)[0], atol=1e-4)

"""Every model of `tests/models` as a TFLite file: equal to the original at lengths that were not traced."""

from __future__ import annotations

import numpy as np
import pytest
from models import LENGTHS, MODELS
from speechc.compiler.capture import capture_with_reference
from speechc.compiler.manager import Manager
from speechc.compiler.plan import plan
from speechc.lowering.tflite import target
from speechc.passes.base import Context


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_model(name, tmp_path):
    case = MODELS[name]()
    module, reference = capture_with_reference(case.module, case.inputs, case.time_axis)
    Manager(Context()).run(module, plan(target, "float32", False))
    (path, *_) = target.emit(module, tmp_path / "model.tflite", "float32", {})
    session = target.load(path, threads=1)
    for length in LENGTHS[name]:
        feeds = case.make_inputs(length)
        got = session.run(*(feeds[p.name] for p in session.manifest.inputs))
        session.reset()
        for a, b in zip(got, reference(feeds), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            # Eager PyTorch in float32, through hundreds of layers' worth of sums in another order.
            assert np.abs(a.astype(np.float64) - b).max() <= 1e-4 * max(np.abs(b).max(), 1e-6)
    session.close()

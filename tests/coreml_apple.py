"""A pytest plugin: coremltools' own tests of MIL ops, with the interpreter in place of Core ML.

On macOS these tests compare with Core ML, so what they expect is what it does; off macOS they stop before the
comparison. The plugin puts the interpreter there, keeps few of each test's hundreds of parameters (`APPLE_TESTS_EACH`),
and prints how many results were compared.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from speechc.ir.errors import UnsupportedError
from speechc.lowering.coreml.interpreter import Program
from speechc.lowering.coreml.mil_file import walk

# Not for speech: images, boxes, random numbers, class labels. Of local_response_norm, devices and text disagree.
ABSENT = {
    "affine", "classify", "crop_resize", "local_response_norm", "non_maximum_suppression", "random_bernoulli",
    "random_categorical", "random_normal", "random_uniform", "resample",
}  # fmt: skip
OTHERS = {
    "test_efficient_type_inference": "measures the converter's time",
    "invalid_indices": "what a device does is undefined; the interpreter refuses",
    "numpy.int32'>-y_dtype=<class 'numpy.float": "products of integers and floats are refused",
    "numpy.float16'>-y_dtype=<class 'numpy.int32'": "the same",
    "numpy.float32'>-y_dtype=<class 'numpy.int32'": "the same",
}
# Programs of coremltools 9.0 that are ill typed: float16 parameters for an input that stayed float32.
ILL_TYPED = ("x_param_dtype=(<class 'numpy.float16'>",)
compared = {"results": 0}


def predict(model, feeds, state=None):
    """What `MLModel.predict` gives on a device: (outputs, whether the program computes in float16)."""
    try:
        program = Program.load(Path(model.package_path))
    except UnsupportedError as error:
        if error.code == "SC330" and any(f"({name})" in line for name in ABSENT for line in error.where):
            pytest.skip(f"without {error.where[0]}")
        raise
    ready = {}
    for name, (dtype, shape) in program.inputs.items():
        value = np.asarray(feeds[name]).astype(dtype)
        ready[name] = value.reshape(1) if value.ndim == 0 and shape == (1,) else value
    half = any(t.dtype == "fp16" for op in walk(program.package.block) for _, t in op.outputs)
    return program.run(ready, state), half


def compare_backend(
    mlmodel, input_key_values, expected_outputs, dtype="fp32", atol=1e-4, rtol=1e-5, also_compare_shapes=True,
    state=None, allow_mismatch_ratio=0.0,
):  # fmt: skip
    """coremltools' function of that name, with its tolerances; for float16 a hundredth, where Apple allows a half."""
    got, half = predict(mlmodel, input_key_values, state)
    if half:
        atol, rtol = max(10 * atol, 1e-2), max(rtol, 1e-2)
    for name, want in (expected_outputs or {}).items():
        found, want = got[name if name in got else name.replace("-", "_").replace("/", "_")], np.asarray(want)
        want = want.reshape(1) if want.shape == () and found.shape == (1,) else want
        assert found.shape == want.shape or not also_compare_shapes
        near = np.isclose(found.astype(np.float64), want.astype(np.float64), rtol, atol, equal_nan=True)
        assert np.mean(~near) <= allow_mismatch_ratio, (name, found, want)
        compared["results"] += 1
    return got


def pytest_configure(config):
    from coremltools.converters.mil import testing_utils
    from coremltools.models.model import MLModel

    testing_utils.compare_backend = compare_backend  # before the tests import it by name
    MLModel.make_state = lambda self: Program.load(Path(self.package_path)).make_state()
    MLModel.predict = lambda self, data, state=None: predict(self, data, state)[0]


def pytest_collection_modifyitems(items):
    each, groups = int(os.environ.get("APPLE_TESTS_EACH", "1")), {}
    for item in items:
        if "neuralnetwork" not in item.nodeid and not any(n in item.nodeid for n in (*OTHERS, *ILL_TYPED)):
            groups.setdefault(item.nodeid.split("[")[0], []).append(item)
    items[:] = [g[i * len(g) // min(each, len(g))] for g in groups.values() for i in range(min(each, len(g)))]


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"compared {compared['results']} results")

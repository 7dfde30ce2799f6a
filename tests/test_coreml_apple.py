"""A sample of the tests of MIL ops that coremltools ships, which compare with Core ML on macOS, on the interpreter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "coremltools.converters.mil.mil.ops.tests"
# Tests by op set, run in one process each, and how many results they must have compared, at the least.
PARTS = {
    ("iOS14.test_recurrent",): 44,
    tuple(
        f"iOS14.test_{name}"
        for name in (
            "activation", "conv", "control_flow", "elementwise_binary", "elementwise_unary", "image_resizing", "linear",
            "normalization", "pool", "reduction", "scatter_gather", "tensor_operation", "tensor_transformation",
        )
    ): 223,
    ("iOS15", "iOS16"): 35,
    ("iOS17",): 76,
    ("iOS18",): 52,
}  # fmt: skip
EACH = {"iOS14.test_recurrent": 4}  # tests kept of each one's parameters, 1 otherwise


@pytest.mark.slow
@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: parts[0])
def test_apples_tests(parts):
    here = Path(__file__).parent
    settings = {
        "INCLUDE_MIL_FP32_UNIT_TESTS": "1", "PYMIL_TEST_TARGETS": "mlprogram", "PYTHONPATH": str(here),
        "APPLE_TESTS_EACH": str(EACH.get(parts[0], 1)),
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-p", "coreml_apple", "-p", "no:cacheprovider", "-q", "-W", "ignore"]
    command += [
        "--tb=short",
        "-c",
        os.devnull,
        "--rootdir",
        str(here),
        "--pyargs",
        *(f"{PACKAGE}.{part}" for part in parts),
    ]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    (count,) = re.findall(r"compared (\d+) results", done.stdout)
    assert int(count) >= PARTS[parts], done.stdout[-1000:]

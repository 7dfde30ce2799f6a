"""Apple's own tests of MIL ops, shipped with coremltools and passing on its devices, pass on the interpreter too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "coremltools.converters.mil.mil.ops.tests"
# Folders of tests by op set, and how many results their tests must have compared, at the least.
PARTS = {
    "iOS14.test_activation": 46,
    "iOS14.test_conv": 10,
    "iOS14.test_control_flow": 26,
    "iOS14.test_elementwise_binary": 21,
    "iOS14.test_elementwise_unary": 8,
    "iOS14.test_image_resizing": 14,
    "iOS14.test_linear": 27,
    "iOS14.test_normalization": 27,
    "iOS14.test_pool": 14,
    "iOS14.test_recurrent": 80,
    "iOS14.test_reduction": 12,
    "iOS14.test_scatter_gather": 39,
    "iOS14.test_tensor_operation": 76,
    "iOS14.test_tensor_transformation": 91,
    "iOS15": 11,
    "iOS16": 62,
    "iOS17": 160,
    "iOS18": 116,
}
EACH = {"iOS14.test_recurrent": 12}  # tests kept of each one's parameters, 3 otherwise


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_apples_tests(part):
    here = Path(__file__).parent
    settings = {
        "INCLUDE_MIL_FP32_UNIT_TESTS": "1", "PYMIL_TEST_TARGETS": "mlprogram", "PYTHONPATH": str(here),
        "APPLE_TESTS_EACH": str(EACH.get(part, 3)),
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-p", "coreml_apple", "-p", "no:cacheprovider", "-q", "-W", "ignore"]
    command += ["--tb=short", "-c", os.devnull, "--rootdir", str(here), "--pyargs", f"{PACKAGE}.{part}"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    (count,) = re.findall(r"compared (\d+) results", done.stdout)
    assert int(count) >= PARTS[part], done.stdout[-1000:]

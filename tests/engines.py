"""What the tests of the TensorRT target share: engines written from graphs and models, and comparisons."""

from __future__ import annotations

import numpy as np
from speechc.compiler.capture import capture_with_reference
from speechc.compiler.manager import Manager
from speechc.compiler.plan import plan
from speechc.lowering.manifest import Manifest, manifest_path
from speechc.lowering.tensorrt import target
from speechc.passes.base import Context


def emitted(module, folder, precision="float32", **options):
    """(session, facts): the engine of a module written to `folder`, opened, and what its manifest says of TensorRT."""
    path = folder / "model.engine"
    target.emit(module, path, precision, options)
    return target.load(path, threads=1), Manifest.load(manifest_path(path)).meta["tensorrt"]


def compiled(case, precision: str, calibrated: bool = False):
    """(module, reference): a model of `tests/models` through the passes of a precision."""
    module, reference = capture_with_reference(case.module, case.inputs, case.time_axis)
    samples = [case.make_inputs(n) for n in (40, 55)] if calibrated else []
    Manager(Context(samples=samples)).run(module, plan(target, precision, calibrated))
    return module, reference


def within(case) -> None:
    """Let the profile of an op case start at its own sizes: smaller ones may leave nothing."""
    case.module.meta["limits"] = {name: [n, n + 8] for name, n in case.sizes.items()}
    case.module.meta["sample_sizes"] = {name: n + 8 for name, n in case.sizes.items()}


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest number wanted, or to one where all are smaller."""
    assert found.shape == wanted.shape and found.dtype == wanted.dtype, (found.dtype, found.shape, wanted.shape)
    if found.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted)
        return 0.0
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    difference = np.abs(found[finite].astype(np.float64) - wanted[finite])
    return difference.max(initial=0) / max(1.0, np.abs(wanted[finite]).max(initial=0))


def snr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Signal over difference, in dB."""
    noise = np.linalg.norm(found.astype(np.float64) - wanted)
    return 20 * np.log10(np.linalg.norm(wanted) / max(noise, 1e-30))

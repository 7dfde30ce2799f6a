"""Packages of coremltools' own converter, saved and run by the MIL interpreter, against the PyTorch they come from.

What writes them shares nothing with speechc's emitter, and PyTorch nothing with either, so the interpreter cannot
merely mirror a mistake of the emitter. On macOS, Core ML itself runs the same packages.
"""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import torch
from coreml_modules import CASES, Case
from speechc.lowering.coreml.interpreter import Program

# float32: sums in another order. float16: a rounding is 2^-11 of a value, -73 dB below it as noise; chains of up to
# forty of them and float16 weights cost up to 20 dB.
CLOSE, SNR = 1e-5, 50.0


def converted(case: Case, module: torch.nn.Module, path):
    """`module` as coremltools converts it, saved at `path`."""
    from speechc.lowering.coreml.sdk import sdk

    ct = sdk()

    inputs = case.inputs()
    kind = np.int32 if case.integer else np.float16 if case.half and case.target != "iOS15" else np.float32
    types = []
    for i, shape in enumerate(case.shapes):
        sizes = [_dimension(ct, case.flexible[d], n) if d in case.flexible else n for d, n in enumerate(shape)]
        listed = next((v for v in case.flexible.values() if isinstance(v, list)), None)
        if listed:
            sizes = ct.EnumeratedShapes([[n if d in case.flexible else s for d, s in enumerate(shape)] for n in listed])
        types.append(ct.TensorType(f"x{i}", shape=sizes, dtype=kind))
    options = {}
    if case.steps > 1:
        options["states"] = [
            ct.StateType(ct.TensorType(shape=b.shape, dtype=np.float16), name=n) for n, b in module.named_buffers()
        ]
    with torch.no_grad():
        if case.export:
            source = torch.export.export(module, tuple(inputs)).run_decompositions({})
        else:
            source = torch.jit.trace(copy.deepcopy(module), tuple(inputs))
    model = ct.convert(
        source, inputs=types, convert_to="mlprogram", skip_model_load=sys.platform != "darwin",
        compute_precision=ct.precision.FLOAT16 if case.half else ct.precision.FLOAT32,
        minimum_deployment_target=getattr(ct.target, case.target), **options,
    )  # fmt: skip
    model = case.compress(model) if case.compress else model
    model.save(str(path))
    return model


def _dimension(ct, how, size):
    return ct.RangeDim(*how, default=size) if isinstance(how, tuple) else size


def agree(case: Case, got: np.ndarray, want: np.ndarray):
    assert got.shape == want.shape
    got, want = got.astype(np.float64), want.astype(np.float64)
    off = np.abs(got - want)
    if case.half:
        noise = np.sum(off**2) + 1e-30
        assert 10 * np.log10(np.sum(want**2) / noise) > SNR
    else:
        assert off.max() <= CLOSE * max(1.0, np.abs(want).max())


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name, marks=() if c.quick else pytest.mark.slow) for c in CASES]
)  # fmt: skip
def test_package_equals_pytorch(case: Case, tmp_path):
    torch.manual_seed(1)
    torch.backends.mha.set_fastpath_enabled(False)  # a fused operator that the converter does not know
    module = case.make().eval()
    model = converted(case, module, tmp_path / "m.mlpackage")
    program = Program.load(tmp_path / "m.mlpackage")
    assert set(case.ops) <= set(program.ops), program.ops
    names, states = list(program.inputs), program.make_state()
    device = model.make_state() if sys.platform == "darwin" and states else None
    for size in case.sizes or (None,) * case.steps:
        inputs = case.inputs(size)
        feeds = {n: x.numpy().astype(program.inputs[n][0]) for n, x in zip(names, inputs, strict=True)}
        with torch.no_grad():
            want = module(*inputs)
        want = [w.numpy() for w in (want if isinstance(want, tuple) else (want,))]
        got = program.run(feeds, states)
        assert len(got) == len(want)
        for g, w in zip(got.values(), want):
            agree(case, g, w)
        if sys.platform == "darwin":
            native = model.predict(feeds, device) if device else model.predict(feeds)
            for name, g in got.items():
                agree(case, native[name], g)

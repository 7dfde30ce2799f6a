"""A second, independent route to TFLite (onnx2tf, from our ONNX file) gives the same; and partitions stay whole."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from models import LENGTHS, MODELS
from speechc.compiler.capture import capture
from speechc.compiler.manager import Manager
from speechc.compiler.plan import plan
from speechc.lowering.target import target
from speechc.passes.base import Context

# Models whose graph XNNPACK takes whole, at any length: nothing in them asks for a shape at run time.
WHOLE = ("conformer", "keyword_spotter", "log_mel_causal", "separable_tcn", "transformer", "whisper_encoder")


def emitted(name, target_name, folder):
    case = MODELS[name]()
    module = capture(case.module, case.inputs, case.time_axis)
    lowering = target(target_name)
    Manager(Context()).run(module, plan(lowering, "float32", False))
    path, *_ = lowering.emit(module, folder / f"{name}{lowering.suffix}", "float32", {})
    return case, path


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_one_partition(name, tmp_path):
    case, path = emitted(name, "tflite", tmp_path)
    session = target("tflite").load(path)
    for length in LENGTHS[name]:
        feeds = case.make_inputs(length)
        session.run(*(feeds[p.name] for p in session.manifest.inputs))
        assert session.operators().count("DELEGATE") == 1
    session.close()


def fix_sizes(path, feeds):
    """Write the sizes of `feeds` into an ONNX file: the other route bakes a length into its files."""
    import onnx

    model = onnx.load(path)
    for v in model.graph.input:
        for d, n in zip(v.type.tensor_type.shape.dim, feeds[v.name].shape):
            d.dim_value = n
    for v in (*model.graph.output, *model.graph.value_info):
        v.type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("onnx2tf") is None, reason="onnx2tf is not installed")
@pytest.mark.parametrize("name", ["conformer", "keyword_spotter", "log_mel_causal", "separable_tcn", "transformer"])
def test_onnx2tf_gives_the_same(name, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    case, path = emitted(name, "tflite", tmp_path)
    _, onnx = emitted(name, "onnx", tmp_path)
    feeds = case.make_inputs(LENGTHS[name][1])
    session = target("tflite").load(path)
    found = session.run(*(feeds[p.name] for p in session.manifest.inputs))
    session.close()
    fix_sizes(onnx, feeds)
    command = [sys.executable, "-m", "onnx2tf", "-i", str(onnx), "-o", str(tmp_path / "peer"), "-n", "-kat", *feeds]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = (tmp_path / "peer").glob("*float32.tflite")
    peer = Interpreter(str(file))
    arrays = {}
    for d in peer.get_input_details():
        arrays[d["index"]] = next(a for k, a in feeds.items() if k in d["name"] or len(feeds) == 1)
        peer.resize_tensor_input(d["index"], arrays[d["index"]].shape)
    peer.allocate_tensors()
    for index, array in arrays.items():
        peer.set_tensor(index, array)
    peer.invoke()
    theirs = [peer.get_tensor(d["index"]) for d in peer.get_output_details()]
    for ours, other in zip(found, theirs, strict=True):
        # Two converters, two orders of float32 sums.
        assert np.abs(ours - other.reshape(ours.shape)).max() <= 1e-4 * np.abs(ours).max()

"""A disk that fills up, by a real limit on the size of files: exit status 2, one message, nothing half-written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from speechc.ir import text
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.types import Tensor, time_input

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
LIMITED = """
import resource, signal, sys
from speechc.compiler import cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
cli.main(sys.argv[1:])
"""


@pytest.fixture
def graph(tmp_path) -> Path:
    """A graph with 260 KB of weights."""
    module = Module()
    x = module.graph("main").input("x", Tensor("f32", [1, time_input(symbol("T"), "audio"), 256]))
    b = Builder(module.main, Loc("layer", "Linear", "model.py:3"))
    weight = np.random.default_rng(0).standard_normal((256, 256), np.float32) / 16
    module.main.output(b.linear(x, b.weight("layer.weight", weight), None), "y")
    text.save(module, tmp_path / "g.sir")
    return tmp_path / "g.sir"


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "{graph}", "-t", "onnx", "-o", "."],
        ["compile", "{graph}", "-t", "tflite", "-o", "."],
        pytest.param(["compile", "{graph}", "-t", "coreml", "-o", "."], marks=pytest.mark.slow),
        pytest.param(["compile", "{graph}", "-t", "tensorrt", "-o", "."], marks=pytest.mark.slow),
        ["opt", "{graph}", "-p", "simplify", "-o", "x.sir"],
        ["opt", "{graph}", "-p", "simplify", "--dump-ir", "."],
    ],
    ids=["onnx", "tflite", "coreml", "tensorrt", "opt", "dump"],
)
def test_a_disk_that_fills_up(graph, tmp_path, arguments):
    folder = tmp_path / "work"
    folder.mkdir()
    arguments = [a.format(graph=graph) for a in arguments]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and done.stderr.count("error[") == 1, done.stderr
    assert "too large" in done.stderr or "coremltools" in done.stderr, done.stderr  # that one does not say why
    left = {p.name for p in folder.rglob("*")}
    assert left <= {"00-captured.sir"}, f"left behind: {left}"  # a dump keeps the steps that are whole

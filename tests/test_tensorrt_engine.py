"""Engines on a GPU: equal to the graph where there is one that they were built for; the session on a stand-in for CUDA.

The stand-in is a library of the driver's functions that works in the processor's memory, and an engine that computes
with onnxruntime what the bindings' addresses hold: it shows that names, shapes, copies and states are right, and
nothing about TensorRT itself.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from types import SimpleNamespace

import engines
import numpy as np
import onnxruntime
import pytest
from models import MODELS
from models.steps import late
from speechc.ir.errors import MissingError, SpeechcError
from speechc.ir.interpreter import initial_states, run
from speechc.lowering.manifest import Manifest, manifest_path
from speechc.lowering.stream_session import BatchSession
from speechc.lowering.tensorrt.cuda import Device
from speechc.lowering.tensorrt.engine import EngineSession
from test_tensorrt_network import mixed

DRIVER = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
int cuInit(int f) { return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int i) { *d = 7; return i; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, "stand-in", n); return d != 7; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? 6 : -1; return d != 7; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = malloc(1); return d != 7; }
int cuCtxSetCurrent(void *c) { return c == 0; }
int cuStreamCreate(void **s, int f) { *s = malloc(1); return f; }
int cuStreamSynchronize(void *s) { return s == 0; }
int cuMemAlloc_v2(uint64_t *p, size_t n) { *p = (uint64_t)malloc(n); return n == 0; }
int cuMemFree_v2(uint64_t p) { free((void *)p); return 0; }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t n) { memcpy((void *)to, from, n); return 0; }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t n) { memcpy(to, (void *)from, n); return 0; }
"""
TYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int8)": "INT8", "tensor(int32)": "INT32",
         "tensor(int64)": "INT64", "tensor(bool)": "BOOL"}  # fmt: skip
ARRAYS = {"FLOAT": "f4", "HALF": "f2", "INT8": "i1", "INT32": "i4", "INT64": "i8", "BOOL": "?"}


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(DRIVER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "cuda.so", folder / "cuda.c"], check=True)
    return Device(str(folder / "cuda.so"))


class Engine:
    """What a session calls of an engine and of its context, computed by onnxruntime at the bindings' addresses."""

    def __init__(self, model):
        self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self.inputs = {p.name: TYPES[p.type] for p in self.session.get_inputs()}
        self.outputs = {p.name: TYPES[p.type] for p in self.session.get_outputs()}
        self.names = [*self.inputs, *self.outputs]
        self.num_io_tensors = len(self.names)
        self.shapes, self.addresses, self.made = {}, {}, {}

    def create_execution_context(self):
        return self

    def get_tensor_name(self, i):
        return self.names[i]

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name={**self.inputs, **self.outputs}[name])

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def _read(self, name):
        shape, dtype = self.shapes[name], np.dtype(ARRAYS[self.inputs[name]])
        data = ctypes.string_at(self.addresses[name], int(np.prod(shape)) * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(shape)

    def get_tensor_shape(self, name):
        results = self.session.run(list(self.outputs), {n: self._read(n) for n in self.inputs})
        self.made = dict(zip(self.outputs, results))
        return self.made[name].shape

    def execute_async_v3(self, stream):
        for name, array in self.made.items():
            ctypes.memmove(self.addresses[name], np.ascontiguousarray(array).ctypes.data, array.nbytes)
        return bool(stream)


def on_stand_in(folder, device) -> EngineSession:
    path = folder / "model.engine"
    return EngineSession(path, Manifest.load(manifest_path(path)), device, Engine(folder / "model.engine.onnx"))


def test_the_device(device):
    assert (device.name, device.capability) == ("stand-in", "8.6")
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    address, back = device.allocate(array.nbytes), np.zeros((3, 4), np.float32)
    device.upload(address, array)
    device.download(back, address)
    device.wait()
    device.free(address)
    np.testing.assert_array_equal(array, back)


def test_no_driver():
    with pytest.raises(MissingError, match="SC801") as error:
        Device("libno-such-driver.so.1")
    assert error.value.exit_code == 8


@pytest.mark.slow
def test_lengths_that_grow_and_shrink(device, tmp_path):
    module, _ = engines.compiled(MODELS["lstm_states"](), "float32")
    engines.emitted(module, tmp_path)
    session = on_stand_in(tmp_path, device)
    assert session.runner == "tensorrt_rtx on stand-in"
    for length in (17, 40, 3):
        feeds = MODELS["lstm_states"]().make_inputs(length)
        wanted = run(module.main, feeds)
        found = session.run(*(feeds[v.name] for v in module.main.inputs))
        assert all(engines.error(a, b) <= 1e-5 for a, b in zip(found, wanted, strict=True))
    session.close()


def test_states_go_from_call_to_call(device, tmp_path):
    _, step = late()
    engines.emitted(step, tmp_path)
    session, states = on_stand_in(tmp_path, device), initial_states(step.main)
    rng = np.random.default_rng(0)
    for _ in range(3):
        feeds = {"x": rng.standard_normal((1, 3, 4), dtype=np.float32), "n_valid": np.array([4], np.int32)}
        for a, b in zip(session.run(*feeds.values()), run(step.main, feeds, states), strict=True):
            assert engines.error(a, b) <= 1e-5
        for name, value in states.items():
            assert engines.error(session.state(name), value) <= 1e-5
    session.reset()
    for name, value in initial_states(step.main).items():
        np.testing.assert_array_equal(session.state(name), value)
    stream, plain = BatchSession(session).streams[0], BatchSession(engines.target.load(tmp_path / "model.engine"))
    x = rng.standard_normal((1, 3, 13), dtype=np.float32)
    for a, b in zip(stream.push(x) + stream.flush(), plain.streams[0].push(x) + plain.streams[0].flush(), strict=True):
        assert engines.error(a, b) <= 1e-6


# Least SNR against the graph in dB, and for float32 the largest error: TensorRT sums in another order, and in TF32.
LEAST = {"float32": 60.0, "float16": 40.0, "int8": 25.0, "int8+float16": 25.0}


@pytest.mark.slow
@pytest.mark.parametrize("precision", sorted(LEAST))
def test_an_engine_equals_the_graph(precision, tmp_path):
    """On a GPU that the engine was built for."""
    try:
        own = Device().capability
    except SpeechcError as error:
        pytest.skip(error.message)
    from torch import nn

    case = mixed(nn.GRU)
    module, reference = engines.compiled(case, precision, calibrated=precision.startswith("int8"))
    session, facts = engines.emitted(module, tmp_path, precision)
    if session.runner.startswith("onnxruntime"):
        pytest.skip(f"compute capability {own}: {session.reason}")
    for length in (9, 30, 100):
        feeds = case.make_inputs(length)
        found, meant, right = session.run(feeds["x"])[0], run(module.main, feeds)[0], reference(feeds)[0]
        if precision == "float32":
            assert engines.error(found, meant) <= 1e-3
        assert engines.snr(found, meant) >= LEAST[precision] and engines.snr(found, right) >= LEAST[precision] - 5

"""What sessions refuse before the runtime sees it, by the manifest alone."""

import numpy as np
import pytest
from speechc.ir.errors import NumericalError, UsageError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Module
from speechc.ir.types import Tensor, time_input
from speechc.lowering.feeds import checked_feeds
from speechc.lowering.manifest import Manifest, Port
from speechc.lowering.target import target

TIME = {"axis": 1, "clock": "audio", "rate": "1", "delay": 0, "length": "T"}


def manifest(*shapes, **limits) -> Manifest:
    ports = [
        Port(name, f"file_{name}", "f32", shape, TIME) for name, shape in zip(("audio", "other"), shapes, strict=False)
    ]
    return Manifest("m", "t", "float32", ports, [], limits=limits)


def arrays(*shapes) -> dict[str, np.ndarray]:
    return {n: np.zeros(s, np.float32) for n, s in zip(("audio", "other"), shapes, strict=False)}


def test_what_fits_comes_back_by_the_names_of_the_file():
    for shape, sizes in (
        ([1, "T"], (1, 640)), ([1, "4*T"], (1, 2560)), ([1, "160*T+240"], (1, 160 * 700 + 240)), ([1, "T//2"], (1, 3)),
        ([1, "min(T, 2000)"], (1, 2000)),
    ):  # fmt: skip
        assert list(checked_feeds(manifest(shape, T=[640, 9000]), arrays(sizes))) == ["file_audio"]


@pytest.mark.parametrize(
    ("shapes", "sizes", "code", "words"),
    [
        ([[1, "T"]], [(1, 100)], "SC112", "audio has 100 samples along axis 1; the model takes at least 640"),
        ([[1, "T"]], [(1, 9001)], "SC112", "at most 9000"),
        ([[1, "4*T"]], [(1, 100)], "SC112", "at least 2560"),
        ([[1, "4*T"]], [(1, 2561)], "SC112", "the model takes 4"),
        ([["B", "T"]], [(0, 700)], "SC112", "axis 0; the model takes at least 1"),
        ([[1, "T", 80]], [(1, 700, 81)], "SC112", "81 entries along axis 2; the model takes 80"),
        ([[1, "T"], [1, "T"]], [(1, 700), (1, 701)], "SC112", "both of one T"),
        ([[1, "T"], [1, "T//2"]], [(1, 700), (1, 351)], "SC112", "other has 351"),
        ([[1, "T"]], [(700,)], "SC111", "audio"),
        ([[1, "T"], [1, "T"]], [(1, 700)], "SC110", "other is missing"),
        ([[1, "T"]], [(1, 700), (1, 700)], "SC110", "no input other"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, sizes, code, words):
    with pytest.raises(UsageError) as error:
        checked_feeds(manifest(*shapes, T=[640, 9000], B=[1, None]), arrays(*sizes))
    assert error.value.code == code and words in error.value.message, error.value


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_sessions_hold_to_the_limits(name, tmp_path):
    module = Module(meta={"limits": {"T": [960, None]}})  # a trace wants two frames; one is enough
    x = module.graph("main").input("audio", Tensor("f32", [1, time_input(symbol("T"), "audio")]))
    module.main.output(Builder(module.main).frame(x, size=640, hop=320), "y")
    made = target(name)
    path = made.emit(module, tmp_path / f"m{made.suffix}", "float32", {})[0]
    session = made.load(path)
    assert session.run(np.zeros((1, 640), np.float32))[0].shape == (1, 1, 640)
    with pytest.raises(UsageError, match="audio has 100 samples along axis 1; the model takes at least 640"):
        session.run(np.zeros((1, 100), np.float32))


def test_what_onnxruntime_says_while_running_is_translated(tmp_path, capfd):
    module = Module()
    x = module.graph("main").input("x", Tensor("f32", [1, time_input(symbol("T"), "x")]))
    module.main.output(Builder(module.main).reshape(x, shape=(symbol("T"),)), "y")
    made = target("onnx")
    session = made.load(made.emit(module, tmp_path / "m.onnx", "float32", {})[0])
    session.manifest.inputs[0].shape = ["A", "T"]  # a manifest that promises more than its file can
    with pytest.raises(NumericalError, match=r"onnxruntime cannot run m\.onnx") as error:
        session.run(np.zeros((2, 7), np.float32))
    assert error.value.code == "SC513"
    assert capfd.readouterr().err == ""

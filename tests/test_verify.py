"""`speechc verify`: a good file passes, and what is wrong with another one is noticed and located, on every target."""

import json
from pathlib import Path

import numpy as np
import pytest
import speechc
import torch
from command import run
from speechc.compiler.driver import read_subject
from speechc.compiler.verify.verify import Asked, verify
from speechc.ir.errors import NumericalError, UsageError
from speechc.lowering.manifest import Manifest, manifest_path
from torch import nn

DIGITS = Path(speechc.__file__).parent / "examples" / "digits"
FORMS = [
    ("onnx", "float32"),
    pytest.param("onnx", "float16", marks=pytest.mark.slow),
    pytest.param("onnx", "int8", marks=pytest.mark.slow),
    pytest.param("tflite", "float32", marks=pytest.mark.slow),
    pytest.param("tflite", "float16", marks=pytest.mark.slow),
    pytest.param("tflite", "int8", marks=pytest.mark.slow),
    pytest.param("coreml", "float32", marks=pytest.mark.slow),
    pytest.param("coreml", "float16", marks=pytest.mark.slow),
    pytest.param("tensorrt", "float32", marks=pytest.mark.slow),
]


class Net(nn.Module):
    """features [1, T, 16] -> scores of 6 classes [1, T, 6]."""

    def __init__(self, seed=0, width=24):
        super().__init__()
        torch.manual_seed(seed)
        self.front = nn.Conv1d(16, width, 5, padding=2)
        self.first, self.second = nn.Linear(width, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 6)

    def forward(self, x):
        y = torch.relu(self.front(x.transpose(1, 2))).transpose(1, 2)
        return self.head(torch.tanh(self.second(torch.relu(self.first(y)))))


def sample(frames=60):
    return np.random.default_rng(0).standard_normal((1, frames, 16), dtype=np.float32)


def subject(seed=0):
    return read_subject(Net(seed).eval(), {"x": sample()})


def compiled(folder, target="onnx", precision="float32", seed=0, **more):
    calibration = [{"x": sample()}] if precision == "int8" else None
    made = speechc.compile(
        Net(seed).eval(), {"x": sample()}, target=target, precision=precision, output=folder, name="net",
        calibration=calibration, **more,
    )  # fmt: skip
    return made.path


def judged(path, precision="float32", **more):
    asked = Asked(calibration=[{"x": sample()}] if precision == "int8" else None, **more)
    return verify(subject(), "Net", path, asked)


def change(path, name, factor=-2.0):
    """Make one value of a stored weight another, in the bytes of the file."""
    weight = dict(Net().named_parameters())[name].detach().numpy()
    for file in sorted(path.rglob("*")) if path.is_dir() else sorted(path.parent.glob(path.name + "*")):
        data = bytearray(file.read_bytes()) if file.is_file() and file.suffix != ".json" else b""
        for form in (weight, np.ascontiguousarray(weight.T), np.moveaxis(weight, 1, -1)):
            at = data.find(np.ascontiguousarray(form).tobytes())
            if at >= 0:
                index = int(np.abs(form).argmax())
                value = np.float32(form.reshape(-1)[index] * factor)
                data[at + 4 * index : at + 4 * index + 4] = value.tobytes()
                file.write_bytes(data)
    return weight


@pytest.mark.parametrize(("target", "precision"), FORMS)
def test_a_good_file_passes_and_every_op_of_it_does_what_the_graph_says(target, precision, tmp_path):
    found = judged(compiled(tmp_path, target, precision), precision)
    assert found.good and found.error() is None and found.changed == [] and found.missing == 0, found.as_dict()
    assert found.first is None and len(found.walk.seen) >= 5
    modules = [r.module for r in found.rows]
    assert [m for m in modules if m in ("front", "first", "second", "head")] == ["front", "first", "second", "head"]
    head = next(r for r in found.rows if r.module == "head")
    # What compilations accept of these precisions; a walk that compared the wrong values would be near 0 dB.
    assert head.total.snr > {"float32": 90, "float16": 40, "int8": 20}[precision]
    assert len({tuple(t.lengths.items()) for t in found.trials}) >= 3
    assert {o.name for t in found.trials for o in t.outputs} == {"output"}


@pytest.mark.parametrize(
    "target",
    ["onnx", *(pytest.param(t, marks=pytest.mark.slow) for t in ("tflite", "coreml", "tensorrt"))],
)
def test_one_changed_weight_is_noticed_and_located(target, tmp_path):
    path = compiled(tmp_path, target)
    change(path, "second.weight")
    found = judged(path)
    error = found.error()
    assert error.code == "SC540" and error.exit_code == 5
    assert found.first.loc.path == "second" and "Linear" in str(found.first.loc) and ".py:" in str(found.first.loc)
    assert [r.module for r in found.rows if r.parts] == ["second"]  # what comes behind it is right on what it gets
    assert [c.loc.path for c in found.changed] == ["second"] and found.changed[0].count == 1
    assert any("second" in place and "part here first" in place for place in error.where)


@pytest.mark.slow
def test_a_change_too_small_for_the_outputs_is_noticed_too(tmp_path):
    path = compiled(tmp_path)
    change(path, "second.weight", 1.0 + 1e-4)
    found = judged(path)
    assert all(t.good for t in found.trials)
    assert found.error().code == "SC541" and found.changed[0].loc.path == "second"


@pytest.mark.slow
def test_a_changed_code_of_an_int8_file(tmp_path):
    import onnx

    path = compiled(tmp_path, "onnx", "int8")
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name.startswith("second.weight") and t.data_type == 3)
    codes = onnx.numpy_helper.to_array(tensor).copy()
    codes.reshape(-1)[7] = 127 if codes.reshape(-1)[7] < 0 else -127
    tensor.CopyFrom(onnx.numpy_helper.from_array(codes, tensor.name))
    onnx.save(model, path)
    found = judged(path, "int8")
    assert not found.good and found.changed[0].loc.path == "second" and found.changed[0].count == 1
    assert found.first.loc.path == "second"


@pytest.mark.slow
def test_the_file_of_another_state_of_the_model(tmp_path):
    found = judged(compiled(tmp_path, seed=1))
    assert found.error().code == "SC540"
    assert found.first.loc.path == "front" and {c.loc.path for c in found.changed} >= {"front", "first", "head"}


@pytest.mark.slow
def test_the_file_of_another_model(tmp_path):
    class Other(nn.Module):
        def forward(self, x):
            return {"energy": x.square().mean(-1)}

    path = speechc.compile(Other(), {"x": sample()}, output=tmp_path, name="other").path
    with pytest.raises(NumericalError) as caught:
        judged(path)
    assert caught.value.code == "SC542" and "energy" in str(caught.value)


@pytest.mark.slow
def test_a_file_of_another_precision_than_its_manifest_says(tmp_path):
    good = compiled(tmp_path)
    lossy = compiled(tmp_path / "int8", "onnx", "int8")
    good.write_bytes(lossy.read_bytes())
    found = judged(good)
    assert found.error().code == "SC540" and found.changed
    assert any("not in the file" in note for note in found.notes) == bool(found.missing)


@pytest.mark.slow
def test_a_calibrated_file_without_its_calibration_is_held_to_its_outputs(tmp_path):
    path = compiled(tmp_path, "onnx", "int8")
    found = verify(subject(), "Net", path, Asked())
    assert found.good and found.changed is None and found.walk is None
    assert any("--calibrate" in note for note in found.notes)
    other = verify(subject(), "Net", path, Asked(calibration=[{"x": sample(30)}]))
    assert any("other samples" in note for note in other.notes) and other.changed is None


@pytest.mark.slow
def test_min_snr_and_outputs_only(tmp_path):
    path = compiled(tmp_path)
    change(path, "second.weight")
    found = judged(path, min_snr=1.0, inside=False)
    assert found.good and found.walk is None and found.changed is None
    assert found.worst.snr < 60
    assert not judged(path, min_snr=100.0, inside=False).good


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_a_step_file_is_streamed_and_compared_with_the_whole_original(target, tmp_path):
    path = compiled(tmp_path, target, stream="8 frames")
    found = judged(path)
    assert found.good and found.against == "the model" and found.first is None and len(found.walk.seen) > 5
    change(path, "first.weight")
    found = judged(path)
    assert found.error().code == "SC540" and found.first.loc.path == "first"


@pytest.mark.slow
def test_how_a_file_was_made_is_in_its_manifest(tmp_path):
    path = compiled(tmp_path, stream="8 frames")
    made = Manifest.load(manifest_path(path)).made
    assert made["speechc"] == speechc.__version__ and made["streaming"] == {"stream": "8 frames"}
    data = json.loads(manifest_path(path).read_text())
    data["made"] = {**made, "speechc": "0.0.1"}
    manifest_path(path).write_text(json.dumps(data))
    found = judged(path)  # another version may fold weights otherwise: not compared number by number
    assert found.good and found.changed is None and "0.0.1" in found.notes[0]


@pytest.mark.slow
def test_the_command_on_recordings_against_a_rewritten_model(tmp_path):
    flags = ("--stream", "640ms", "--attention", "chunk:640ms,left=2560ms", "--conv", "chunk")
    assert run(DIGITS / "model.pt", *flags, "-q", cwd=tmp_path)[0] == 0
    status, out, err = run(
        "verify", DIGITS / "model.pt", "model.onnx", "--audio", DIGITS / "audio", "--json", cwd=tmp_path
    )
    found = json.loads(out)
    assert status == 0 and found["good"] and found["error"] is None, err
    assert found["against"] == "the rewritten model" and found["rewrite"]["snr"] < 100
    assert len(found["trials"]) >= 7 and found["along"][-1]["module"] in ("", "(model)")
    assert {"features", "blocks.0.attention", "output"} <= {r["module"] for r in found["along"]}
    assert all(o["same_argmax"] == 1.0 for t in found["trials"] for o in t["outputs"])
    status, out, err = run("verify", DIGITS / "model.pt", "model.onnx", "--along", cwd=tmp_path)
    assert status == 0 and "blocks.3.feed_out.contract" in out and "no recordings" in err


@pytest.mark.slow
def test_a_folder_of_several_parts(tmp_path):
    from models.transducer import lstm
    from speechc.compiler.assembly.opening import read_model
    from speechc.compiler.verify.parts import verify_all

    speechc.compile(lstm(), output=tmp_path)
    found = verify_all(read_model(lstm()), "lstm", tmp_path / "transducer", Asked())
    assert list(found) == ["encoder", "predictor", "joiner"]
    assert all(v.good and v.first is None and v.changed == [] and v.walk.seen for v in found.values())
    with pytest.raises(NumericalError) as caught:
        verify_all(subject(), "Net", tmp_path / "transducer", Asked())
    assert caught.value.code == "SC542"


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [(("nothing.pt", "nothing.onnx"), "SC010", 2), ((DIGITS / "model.pt", DIGITS / "model.pt"), "SC036", 2)],
)
def test_bad_calls(arguments, code, status, tmp_path):
    got, _, err = run("verify", *arguments, cwd=tmp_path)
    assert got == status and f"error[{code}]" in err


@pytest.mark.slow
@pytest.mark.parametrize("samples", [700, 500])
def test_a_recording_near_the_least_that_the_model_was_traced_for(samples, tmp_path):
    """A quarter of it, and a shorter one, are brought up to that length: the traced model takes no less."""
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, samples), 8000)
    made = speechc.compile(DIGITS / "model.pt", output=tmp_path)
    status, out, err = run("verify", DIGITS / "model.pt", made.path, "--audio", "a.wav", "--json", cwd=tmp_path)
    assert status == 0, err
    assert min(t["lengths"]["T"] for t in json.loads(out)["trials"]) == 640


@pytest.mark.parametrize("name", ["a.npz", "a.NPY"])
@pytest.mark.slow
def test_arrays_that_are_damaged(name, tmp_path):
    path = compiled(tmp_path)
    (tmp_path / name).write_bytes(b"no arrays")
    with pytest.raises(UsageError, match=name) as error:
        verify(subject(), "net", path, Asked(tmp_path / name))
    assert error.value.code == "SC030"

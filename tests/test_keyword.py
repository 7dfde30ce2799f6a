"""The keyword spotter of examples/keyword: whole, in steps, in int8; and networks of the size of pymicro-wakeword's."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import speechc
from speechc.compiler.audio import read_audio
from speechc.compiler.listen import open_listener

ROOT = Path(__file__).parent.parent
EXAMPLE, AUDIO = ROOT / "examples" / "keyword", ROOT / "examples" / "digits" / "audio"
FRONT_END = "kaldi-fbank{bins=40,sample_rate=8000}+fixed{mean=14,std=4}"
INT8 = {"target": "tflite", "precision": "int8", "calibration": AUDIO}
FORMS = {"whole.onnx": {}, "step.onnx": {"stream": "30ms"}, "step.tflite": INT8 | {"stream": "30ms"}}


@pytest.fixture(scope="module")
def listeners(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keyword")
    for name, more in FORMS.items():
        speechc.compile(EXAMPLE / "model.pt", front_end=FRONT_END, output=folder / name, **more)
    return {name: open_listener(folder / name) for name in FORMS}


@pytest.fixture(scope="module")
def example():
    """The modules of the example by name; they import one another by bare names."""
    path, before, made = list(sys.path), dict(sys.modules), {}
    sys.path[:0] = [str(EXAMPLE), str(EXAMPLE.parent / "digits")]
    for name in ("model", "data", "strings"):
        folder = EXAMPLE if name != "data" else EXAMPLE.parent / "digits"
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        made[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made[name])
    yield made
    sys.path[:] = path
    for name in made:
        sys.modules.pop(name)
        if name in before:
            sys.modules[name] = before[name]


def heard(listener, audio):
    return [(s.start, s.end) for s in listener.hear(audio).segments]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_every_seven_is_found_and_nothing_else(name, listeners):
    """Recordings of voices that were not trained on, named for what they say."""
    assert listeners[name].kind == "scores" and listeners[name].streams == name.startswith("step")
    for path in sorted(AUDIO.glob("*.wav")):
        found = listeners[name].hear(read_audio(path, 8000)).segments
        assert [s.label for s in found] == ["seven"] * path.stem.count("7"), path.name


@pytest.mark.slow
def test_steps_are_the_whole(listeners):
    """To rounding; the file in int8 on its own grid, a step of which is 1 % of the scores that there are."""
    audio = read_audio(AUDIO / "7702.wav", 8000)
    whole, step, int8 = (next(iter(listeners[n].hear(audio).outputs.values())) for n in FORMS)
    assert whole.shape == step.shape == int8.shape
    assert np.abs(whole - step).max() <= 1e-4 * np.abs(whole).max()
    assert 0 < np.abs(whole - int8).max() <= 0.15 * np.abs(whole).max()


@pytest.mark.slow
def test_real_speakers(listeners, example):
    folder = os.environ.get("SPEECHC_DIGITS")
    if not folder:
        pytest.skip("SPEECHC_DIGITS does not name a folder with the Free Spoken Digit Dataset")
    tests = example["strings"].strings(Path(folder), range(5), 20, (10, 40), seed=11)
    for name in ("step.onnx", "step.tflite"):
        total = example["strings"].score(lambda audio, name=name: heard(listeners[name], audio), tests)
        assert total.said > 30 and total.rejects <= 0.1 and total.false <= 4


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "products", "theirs"), [("NABU", 36_480, 80_824), ("ALEXA", 23_968, 55_856)])
def test_a_network_of_theirs_is_smaller_here(sizes, products, theirs, example, tmp_path):
    """`products`: multiply-accumulates of a step of a file of pymicro-wakeword 2.5; `theirs`: its bytes."""
    import torch

    module = torch.nn.Sequential(example["model"].Keyword(**getattr(example["model"], sizes)), torch.nn.Sigmoid())
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(20):
            module(torch.randn(8, 300, 40))
    samples = [{"input": np.random.default_rng(i).standard_normal((1, 300, 40)).astype(np.float32)} for i in range(2)]
    made = speechc.compile(
        module.eval(), samples[0], target="tflite", precision="int8", calibration=samples, stream="3 frames",
        frame_shift="10ms", integer_ports=True, output=tmp_path / "peer.tflite",
    )  # fmt: skip
    cost = made.manifest.cost
    assert cost["macs"] == cost["int8_macs"] == products and made.path.stat().st_size < 0.8 * theirs
    assert {p.dtype for p in (*made.manifest.inputs, *made.manifest.outputs, *made.manifest.states)} == {"i8"}


@pytest.mark.slow
def test_how_detections_are_counted(example):
    String, score = example["strings"].String, example["strings"].score
    audio = np.zeros(8000 * 36, np.float32)
    said = String(audio, [(1.0, 1.5), (3.0, 3.5), (5.0, 5.5)])
    begins = [0.9, 1.2, 1.9, 3.9, 7.0]  # too early; in it; the same once more; late but in time; nothing there
    total = score(lambda _: [(b, b + 0.1) for b in begins], [said])
    assert (total.said, total.missed, total.false) == (3, 1, 2)
    assert total.rejects == pytest.approx(1 / 3) and total.accepts == pytest.approx(200)

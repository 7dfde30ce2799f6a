"""The main job from end to end: the shipped model, every target and precision, from Python and the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import speechc
from command import run
from speechc.compiler.audio import read_audio
from speechc.compiler.driver import read_subject
from speechc.compiler.numerics import difference
from speechc.ir.errors import NumericalError, SpeechcError

ROOT = Path(speechc.__file__).parent
DIGITS = ROOT / "examples" / "digits"
FORMS = [
    (target, precision, calibrated)
    for target in ("onnx", "tflite")
    for precision, calibrated in (("float32", False), ("float16", False), ("int8", False), ("int8", True))
]
# float32: the order of sums. float16: 11 bits of mantissa through 4 blocks. int8: the default gate of a compilation.
LEAST_SNR = {"float32": 100, "float16": 40, "int8": 20}


@pytest.fixture(scope="module")
def recordings():
    """(audio [1, T], text) of the shipped recordings."""
    lines = [json.loads(line) for line in (DIGITS / "audio" / "texts.jsonl").read_text().splitlines()]
    return [(read_audio(DIGITS / "audio" / line["audio"], 8000)[None], line["text"]) for line in lines]


def transcript(log_probs):
    best = log_probs[0].argmax(-1)
    return " ".join(str(t - 1) for t in best[np.flatnonzero(np.diff(best, prepend=-1))] if t)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision", "calibrated"), FORMS)
def test_the_shipped_model_in_every_form(target, precision, calibrated, recordings, tmp_path):
    artifact = speechc.compile(
        DIGITS / "model.pt",
        target=target,
        precision=precision,
        calibration=[(audio,) for audio, _ in recordings] if calibrated else None,
        output=tmp_path,
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"model.{target}", f"model.{target}.json"]
    assert artifact.manifest.sample_rate == 8000 and artifact.manifest.tokens[0] == "<blank>"
    reference = read_subject(DIGITS / "model.pt").reference
    wrong = 0
    for audio, text in recordings:  # six lengths from one file
        (log_probs,) = artifact.run(audio)
        assert difference([log_probs], reference({"audio": audio})).snr > LEAST_SNR[precision]
        wrong += transcript(log_probs) != text
    assert wrong == 0
    assert artifact.report["bytes"] == artifact.path.stat().st_size


@pytest.mark.slow
def test_json_is_one_object_on_standard_output(tmp_path):
    status, out, _ = run(DIGITS / "model.pt", "--json", "-o", "out", cwd=tmp_path)
    assert status == 0
    report = json.loads(out)
    wanted = {"artefact", "target", "precision", "bytes", "largest_error", "snr", "passes", "seconds"}
    assert wanted <= set(report)
    assert {"name", "seconds", "changed", "changes", "ops"} == set(report["passes"][0])
    assert report["largest_error"] < 1e-4
    assert (tmp_path / report["artefact"]).stat().st_size == report["bytes"]
    assert len(report["checked_at"]) == 2 and report["checked_at"][0] != report["checked_at"][1]


@pytest.mark.slow
def test_the_result_lands_here_under_the_name_of_the_model(tmp_path):
    status, out, _ = run(DIGITS / "model.pt", "-q", cwd=tmp_path)
    assert (status, out) == (0, "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.json"]


@pytest.mark.slow
def test_tools_on_a_dump(tmp_path):
    status, _, _ = run(DIGITS / "model.pt", "-q", "-o", "out", "--dump-ir", "ir", cwd=tmp_path)
    assert status == 0
    dumps = sorted(p.name for p in (tmp_path / "ir").glob("*.sir"))
    for arguments, word in [
        (("inspect", f"ir/{dumps[0]}"), "blocks.0"),
        (("diff", f"ir/{dumps[0]}", f"ir/{dumps[-1]}"), "batch_norm: 4 -> 0"),
        (("opt", f"ir/{dumps[0]}", "-p", "fuse-conv-bn"), "<- fuse-conv-bn"),
        (("inspect", "out/model.onnx"), "audio"),
        (("passes",), "fuse-conv-bn"),
        (("ops",), "conv_transpose"),
        (("ops", "--used", DIGITS / "model.pt"), "aten.layer_norm"),
        (("version",), speechc.__version__),
    ]:
        status, out, err = run(*arguments, cwd=tmp_path)
        assert status == 0, err
        assert word in out


@pytest.mark.slow
def test_numeric_verification_and_bisection_of_the_shipped_model(tmp_path):
    status, _, err = run(DIGITS / "model.pt", "-q", "--verify-each=numeric", cwd=tmp_path)
    assert status == 0, err
    status, out, err = run(DIGITS / "model.pt", "-q", "--bisect", cwd=tmp_path)
    assert status == 0, err
    assert "every pass keeps what it declares" in out


@pytest.mark.slow
def test_a_gate_that_is_missed_writes_nothing(tmp_path):
    status, out, err = run(DIGITS / "model.pt", "-q", "--int8", "--min-snr", "200", cwd=tmp_path)
    assert status == 5 and "SC503" in err and "dB" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_wrong_file_is_found_out(tmp_path, monkeypatch):
    from speechc.lowering.onnx.run import OnnxSession

    right = OnnxSession.run_named
    monkeypatch.setattr(
        OnnxSession, "run_named", lambda self, feeds: {n: a + 1e-2 for n, a in right(self, feeds).items()}
    )
    with pytest.raises(NumericalError, match="emitted file is not the model"):
        speechc.compile(DIGITS / "model.pt", output=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_a_target_lacks_is_one_error(tmp_path, monkeypatch):
    from speechc.lowering.tflite import target

    monkeypatch.setattr(type(target), "illegal", lambda self, op: "no such kernel" if op.kind == "attention" else None)
    status, _, err = run(DIGITS / "model.pt", "-q", "-t", "tflite", cwd=tmp_path)
    assert status == 4 and err.count("error[") == 1
    for i in range(4):
        assert f"blocks.{i}.attention" in err


@pytest.mark.slow
def test_loading_what_was_compiled(tmp_path):
    run(DIGITS / "model.pt", "-q", cwd=tmp_path)
    artifact = speechc.load(tmp_path / "model.onnx")
    assert artifact.run(np.zeros((1, 8000), np.float32))[0].shape == (1, 25, 11)
    with pytest.raises(SpeechcError, match="takes 1 inputs"):
        artifact.run()
    (tmp_path / "model.onnx.json").unlink()
    with pytest.raises(SpeechcError, match="manifest belongs"):
        speechc.load(tmp_path / "model.onnx")


@pytest.mark.slow
def test_int8_without_recordings_says_so(tmp_path):
    status, out, _ = run(DIGITS / "model.pt", "--int8", "--json", "-o", "out", cwd=tmp_path)
    assert status == 0
    assert any("quantized at run time" in remark for remark in json.loads(out)["remarks"])
    assert any("quantized at run time" in note for note in speechc.load(tmp_path / "out" / "model.onnx").manifest.notes)


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["-o", "other.tflite"], 2, "no name for a .onnx file"),
        (["--print-ir-after", "nope"], 2, "nope"),
        (["--limit", "-1"], 2, "--limit -1"),
        (["--option", "colour=3", "-o", "new/deep"], 2, "colour"),
    ],
)
@pytest.mark.slow
def test_what_makes_no_sense_leaves_nothing(arguments, status, word, tmp_path):
    found, _, err = run(DIGITS / "model.pt", "-q", *arguments, cwd=tmp_path)
    assert found == status and word in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_recording_that_is_too_short(tmp_path):
    (tmp_path / "short").mkdir()
    np.save(tmp_path / "short" / "a.npy", np.zeros((1, 100), np.float32))
    status, _, err = run(DIGITS / "model.pt", "-q", "--int8", "--calibrate", "short", cwd=tmp_path)
    assert status == 2 and "SC057" in err and "a.npy" in err and "640" in err


@pytest.mark.slow
def test_a_folder_may_have_a_suffix(tmp_path):
    (tmp_path / "v1.onnx").mkdir()
    status, _, err = run(DIGITS / "model.pt", "-q", "-o", "v1.onnx", cwd=tmp_path)
    assert status == 0, err
    assert sorted(p.name for p in (tmp_path / "v1.onnx").iterdir()) == ["model.onnx", "model.onnx.json"]

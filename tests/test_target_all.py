"""`--target all`: what targets share runs once, each file is proven, one that fails keeps none of the others."""

import json
from pathlib import Path

import numpy as np
import pytest
import speechc
from command import run
from models.steps import late
from speechc.compiler import driver
from speechc.compiler.settings import for_targets
from speechc.compiler.target_flags import as_options
from speechc.ir.errors import UnsupportedError, UsageError
from speechc.ir.text import save
from speechc.lowering.target import target
from speechc.passes.base import registered

BOTH = ("onnx", "tflite")


@pytest.fixture
def model(tmp_path):
    """A small model of 10 ms features as text, in a folder of its own."""
    (tmp_path / "model").mkdir()
    save(late()[0], tmp_path / "model" / "late.sir")
    return tmp_path / "model" / "late.sir"


@pytest.fixture
def two(monkeypatch):
    """Two targets are all that there are."""
    for place in ("speechc.compiler.settings", "speechc.compiler.target_flags"):
        monkeypatch.setattr(f"{place}.available", lambda: list(BOTH))


@pytest.mark.parametrize("flags", [[], ["--stream", "40ms"]])
def test_files_of_all_are_those_of_each(model, two, tmp_path, flags):
    status, _, said = run(model, "-t", "all", "-o", "all", *flags, cwd=tmp_path)
    assert status == 0, said
    for name in BOTH:
        assert run(model, "-t", name, "-o", "one", *flags, cwd=tmp_path)[0] == 0
    made = sorted(p.name for p in (tmp_path / "all").iterdir())
    assert made == sorted(p.name for p in (tmp_path / "one").iterdir()) == [
        "late.onnx", "late.onnx.json", "late.tflite", "late.tflite.json"]  # fmt: skip
    for file in made:
        assert (tmp_path / "all" / file).read_bytes() == (tmp_path / "one" / file).read_bytes(), file
    for words in ("late.onnx", "late.tflite", "onnxruntime", "LiteRT", "float32", "largest difference"):
        assert words in said


def test_json_has_every_report(model, two, tmp_path):
    status, out, _ = run(model, "-t", "all", "--json", "--stream", "40ms", cwd=tmp_path)
    reports = json.loads(out)["targets"]
    assert status == 0 and [r["target"] for r in reports] == list(BOTH)
    assert all(r["streaming"]["state_bytes"] > 0 and r["checked_by"] for r in reports)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_all_plans_begin_with_runs_once(model, two, tmp_path, monkeypatch, precision):
    ran = []
    for name, cls in registered().items():
        own = cls.run
        monkeypatch.setattr(cls, "run", lambda self, g, c, own=own, name=name: (ran.append(name), own(self, g, c)))
    subject = driver.read_subject(model)
    settings = driver.Settings(precision=precision, output=tmp_path / "out")
    reports = driver.build_all(subject, for_targets(settings))
    alone = driver.planned(driver.read_subject(model), driver.Settings(precision=precision), False)
    assert [r.target for r in reports] == list(BOTH)
    assert ran.count("recognise-attention") == 1 == [p.name for p in alone].count("recognise-attention")
    if precision == "float32":  # all of the plan up to legalization is the same
        assert len(ran) < len(alone) + 3


def test_one_that_fails_keeps_none_of_the_others(model, two, tmp_path, monkeypatch):
    tflite = target("tflite")
    monkeypatch.setattr(type(tflite), "illegal", lambda self, op: "not today" if op.kind == "conv" else None)
    status, _, said = run(model, "-t", "all", "-o", "out", cwd=tmp_path)
    assert status == UnsupportedError.exit_code
    assert "error[SC300]" in said and "not today" in said and "front.conv" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["late.onnx", "late.onnx.json"]
    with pytest.raises(UnsupportedError, match="SC300"):
        speechc.compile_all(model, output=tmp_path / "again")
    assert (tmp_path / "again" / "late.onnx").exists()


def test_artifacts_by_target(model, two, tmp_path):
    made = speechc.compile_all(model, output=tmp_path, stream="40ms")
    x = np.random.default_rng(0).standard_normal((1, 3, 21), dtype=np.float32)
    outputs = {}
    for name, artifact in made.items():
        session = artifact.stream()
        outputs[name] = np.concatenate([session.push(x)[0], session.flush()[0]], 2)
    np.testing.assert_allclose(outputs["onnx"], outputs["tflite"], rtol=1e-5, atol=1e-6)  # one float32 convolution
    with pytest.raises(TypeError, match="colour"):
        speechc.compile_all(model, colour="red")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["-o", "all.onnx"], "SC011"), (["--option", "colour=3"], "SC065"), (["--bisect"], "SC017")],
)
def test_what_makes_no_sense(model, two, tmp_path, arguments, code):
    status, _, said = run(model, "-t", "all", *arguments, cwd=tmp_path)
    assert status == UsageError.exit_code and code in said
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_options_are_flags(model, tmp_path):
    assert as_options(["x", "-t", "tflite", "--fused-lstm"], set()) == [
        "x", "-t", "tflite", "--option", "fused_lstm=true"]  # fmt: skip
    assert as_options(["x", "--external-above=10"], set()) == ["x", "--option", "external_above=10"]
    assert as_options(["x", "--target", "all", "--external-above", "10"], set())[-1] == "external_above=10"
    assert as_options(["x", "--external-above", "10"], {"--external-above"}) == ["x", "--external-above", "10"]
    status, _, said = run(model, "--external-above", "10", "-o", "out", "-q", cwd=tmp_path)
    assert (status, said) == (0, "") and Path(tmp_path / "out" / "late.onnx.data").exists()
    assert run(model, "--fused-lstm", cwd=tmp_path)[0] == UsageError.exit_code  # TFLite's, not ONNX's


def test_targets_are_listed(tmp_path):
    status, out, _ = run("targets", cwd=tmp_path)
    assert status == 0
    for words in ("onnx", ".tflite", "float32, float16, int8", "--fused-lstm", "--external-above"):
        assert words in out

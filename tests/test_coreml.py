"""Core ML packages: what they say about themselves, how states are held, lengths, releases, whole models, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import speechc
from quantized import applied, inputs, outputs, small_conformer
from speechc.ir.errors import UnsupportedError, UsageError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import initial_states, run
from speechc.ir.types import Tensor, time_input
from speechc.lowering.coreml import target
from speechc.lowering.manifest import Manifest, manifest_path

DIGITS = Path(speechc.__file__).parent / "examples" / "digits"


def cached() -> Module:
    """x f16[1, 8, 4] a step -> a causal convolution over a cache in float16, and a count in int32 beside it."""
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("net.conv"))
    rng = np.random.default_rng(0)
    x = g.input("x", Tensor("f32", (1, 4, 8)))
    cache = g.state("net.conv.cache", Tensor("f16", (1, 4, 2)))
    count = g.state("steps", Tensor("i32", (1,)), 3)
    carry = g.state("net.carry", Tensor("f32", (1, 5)))
    seen = b.history(b.cast(x, dtype="f16"), cache, axis=2)
    w = b.weight("w", rng.standard_normal((5, 4, 3)).astype(np.float16))
    y = b.cast(b.conv(seen, w, None), dtype="f32")
    total = b.add(b.read(carry), b.sum(y, axes=(2,)))
    b.write(carry, total)
    now = b.read(count)
    b.write(count, b.add(now, b.const(1, "i32")))
    g.output(b.mul(y, b.cast(now, dtype="f32")), "y")
    g.output(total, "total")
    return module


def written(module, path, precision="float32", meta=None, **options):
    module.meta.update(meta or {})
    return target.emit(module, path / "model.mlpackage", precision, options)


def spec_of(path):
    from speechc.lowering.coreml.sdk import sdk

    return sdk().utils.load_spec(str(path))


def chunks(count):
    return [{"x": np.random.default_rng(i).standard_normal((1, 4, 8), dtype=np.float32)} for i in range(count)]


@pytest.mark.parametrize("options", [{}, {"state": "explicit"}, {"minimum_deployment": "iOS17"}], ids=str)
def test_states_go_from_call_to_call(options, tmp_path):
    """Core ML holds float16 caches from iOS 18 on; carries and counters are inputs and outputs everywhere."""
    module = cached()
    written(module, tmp_path, "float16", **options)
    session = target.load(tmp_path / "model.mlpackage")
    held = {p.name: p.native for p in session.manifest.states}
    assert held == {"net.conv.cache": not options, "steps": False, "net.carry": False}
    spec = spec_of(tmp_path / "model.mlpackage")
    assert [s.name for s in spec.description.state] == ([] if options else ["state_net_conv_cache"])
    assert spec.specificationVersion == (8 if options.get("minimum_deployment") or options else 9)
    for _ in range(2):
        session.reset()
        states = initial_states(module.main)
        for feeds in chunks(4):
            expected = dict(zip(module.main.output_names, run(module.main, feeds, states)))
            found = session.run_named(feeds)
            for name, array in expected.items():  # the sums of a convolution are rounded once, or at every step
                np.testing.assert_allclose(found[name], array, atol=2e-2, err_msg=name)
        for name, value in states.items():
            np.testing.assert_allclose(session.state(name), value, atol=2e-2, err_msg=name)
            assert session.state(name).dtype == value.dtype
    assert session.state("steps") == 7


def test_two_streams_share_a_package(tmp_path):
    """Arrays that were taken out of a session keep their values when the states move on."""
    module = cached()
    written(module, tmp_path, "float16")
    session = target.load(tmp_path / "model.mlpackage")
    first, second = chunks(2)
    start = session.state("net.conv.cache")
    session.run_named(first)
    assert not start.any() and session.state("net.conv.cache").any()
    alone = session.run_named(second)["y"]
    session.reset()
    session.run_named(first)
    middle = {p.name: session.state(p.name) for p in session.manifest.states}
    session.reset()
    session.run_named(chunks(3)[2])
    for name, value in middle.items():
        session.set_state(name, value)
    np.testing.assert_array_equal(session.run_named(second)["y"], alone)


def test_a_package_describes_itself(tmp_path):
    meta = {"sample_rate": 16000, "tokens": ["a", "b"], "source_hash": "abc", "limits": {"T": [17, 900]}}
    given = {"author": "Ada", "license": "MIT", "description": "Words from features"}
    written(small_conformer(), tmp_path, meta=meta, **given)
    spec = spec_of(tmp_path / "model.mlpackage")
    about = spec.description.metadata
    assert (about.author, about.license, about.shortDescription) == ("Ada", "MIT", "Words from features")
    assert about.versionString.startswith("speechc ")
    assert about.userDefined["speechc.sample_rate"] == "16000"
    assert about.userDefined["speechc.precision"] == "float32"
    assert about.userDefined["speechc.tokens"].split() == ["a", "b"]
    inside = json.loads(about.userDefined["speechc.manifest"])
    beside = json.loads(manifest_path(tmp_path / "model.mlpackage").read_text())
    assert inside == beside and beside["source_hash"] == "abc" and beside["meta"]["minimum_deployment"] == "iOS17"
    (x,) = spec.description.input
    assert "x: f32[1, T, 20], axis 1 is time" in x.shortDescription
    sizes = [(r.lowerBound, r.upperBound) for r in x.type.multiArrayType.shapeRange.sizeRanges]
    assert sizes == [(1, 1), tuple(beside["limits"]["T"]), (20, 20)]
    assert list(x.type.multiArrayType.shape) == [1, 100, 20]


def test_named_lengths(tmp_path):
    module = small_conformer()
    written(module, tmp_path, lengths="60,200, 90")
    session = target.load(tmp_path / "model.mlpackage")
    assert session.manifest.lengths == {"T": [60, 90, 200]} and session.manifest.limits["T"] == [60, 200]
    (x,) = spec_of(tmp_path / "model.mlpackage").description.input
    assert [list(s.shape) for s in x.type.multiArrayType.enumeratedShapes.shapes] == [[1, n, 20] for n in (60, 90, 200)]
    np.testing.assert_allclose(session.run_named(inputs(90))["y"], outputs(module, 90)[0], atol=1e-4)
    with pytest.raises(UsageError, match="this file takes 60, 90, 200") as refusal:
        session.run_named(inputs(77))
    assert refusal.value.code == "SC112"
    written(module, tmp_path, lengths="90")
    session = target.load(tmp_path / "model.mlpackage")
    np.testing.assert_allclose(session.run_named(inputs(90))["y"], outputs(module, 90)[0], atol=1e-4)


@pytest.mark.parametrize(
    "options,code,said",
    [
        ({"lengths": "long"}, "SC068", "whole numbers"),
        ({"lengths": "0,5"}, "SC068", "whole numbers"),
        ({"lengths": "2,50"}, "SC068", "the model takes"),
        ({"state": "hidden"}, "SC068", "native or explicit"),
        ({"minimum_deployment": "iOS9"}, "SC068", "no such release"),
        ({"speed": 3}, "SC065", "no option speed"),
    ],
)
def test_bad_options(options, code, said, tmp_path):
    with pytest.raises(UsageError, match=said) as refusal:
        written(small_conformer(), tmp_path, meta={"limits": {"T": [17, None]}}, **options)
    assert refusal.value.code == code and not list(tmp_path.iterdir())


def test_too_old_a_system_is_refused(tmp_path):
    """Codes of 8 bits between operations came with iOS 17."""
    module, _ = applied(small_conformer(), *target.compress("int8", True))
    with pytest.raises(UnsupportedError, match="iOS16 lacks") as refusal:
        written(module, tmp_path, "int8", minimum_deployment="macOS13")
    assert refusal.value.code == "SC316" and "quantize is there from iOS17 on" in str(refusal.value)
    assert not list(tmp_path.iterdir())


# Against the graph that is written: float16 rounds elsewhere, a code of 8 bits may fall on its neighbour.
LEAST = {"float32": 100.0, "float16": 55.0, "int8": 35.0}


def snr(found, wanted) -> float:
    noise = np.square(found.astype(np.float64) - wanted).sum()
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / max(noise, 1e-30)))


@pytest.mark.parametrize(
    "precision,calibrated", [("float32", False), ("float16", False), ("int8", False), ("int8", True)]
)
def test_a_small_conformer(precision, calibrated, tmp_path):
    module, _ = applied(small_conformer(), *target.compress(precision, calibrated))
    written(module, tmp_path, precision)
    session = target.load(tmp_path / "model.mlpackage")
    for length in (64, 117):
        (wanted,) = outputs(module, length)
        assert snr(session.run_named(inputs(length))["y"], wanted) > LEAST[precision]
    kinds = set(session.engine.program.ops)
    packed = {k for k in kinds if k.startswith("constexpr")}
    assert packed == ({"constexpr_affine_dequantize"} if precision == "int8" else set())
    assert ("quantize" in kinds) == calibrated
    stored = (tmp_path / "model.mlpackage" / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").stat().st_size
    numbers = sum(w.array.size for w in small_conformer().weights)
    assert stored < numbers * {"float32": 4.6, "float16": 2.6, "int8": 2.2}[precision]


def test_nothing_but_numbers_at_the_interface(tmp_path):
    """Bools and int64 go in and out as int32, scalars as one number; the session gives what the model means."""
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("net"))
    flag, index, scale = (g.input(n, Tensor(t, s)) for n, t, s in
                          (("mask", "bool", (3,)), ("index", "i64", (2,)), ("scale", "f32", ())))  # fmt: skip
    g.output(b.logical_not(flag), "not")
    g.output(b.add(index, b.const(1, "i64")), "next")
    g.output(b.mul(scale, b.const(2.0, "f32")), "twice")
    g.output(flag, "same")
    g.output(b.weight("w", np.arange(3, dtype=np.float32)), "known")
    written(module, tmp_path)
    session = target.load(tmp_path / "model.mlpackage")
    assert {p.name: p.file_dtype for p in session.manifest.inputs} == {"mask": "i32", "index": "i32", "scale": None}
    feeds = {"mask": np.array([True, False, True]), "index": np.array([4, 5]), "scale": np.array(1.5, np.float32)}
    out = session.run_named(feeds)
    expected = dict(zip(g.output_names, run(g, feeds)))
    for name, array in expected.items():
        np.testing.assert_array_equal(out[name], array, err_msg=name)
        assert out[name].dtype == array.dtype and out[name].shape == array.shape


def test_names_that_mil_does_not_take(tmp_path):
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("0.net-work"))
    x = g.input("state", Tensor("f32", (2,)))
    y = g.input("1.x", Tensor("f32", (2,)))
    g.output(b.add(x, y), "1_x")
    g.output(b.sub(x, y), "state.1")
    written(module, tmp_path)
    session = target.load(tmp_path / "model.mlpackage")
    out = session.run_named({"state": np.float32([1, 2]), "1.x": np.float32([3, 5])})
    np.testing.assert_array_equal(out["1_x"], [4, 7])
    np.testing.assert_array_equal(out["state.1"], [-2, -3])


def test_several_graphs_are_several_packages(tmp_path):
    module = Module()
    for name, sign in (("encoder", 1.0), ("decoder", -1.0)):
        g = module.graph(name)
        b = Builder(g, Loc(name))
        x = g.input("x", Tensor("f32", (1, time_input(symbol("T"), "frames"))))
        g.output(b.mul(x, b.const(sign, "f32")), "y")
    files = written(module, tmp_path)
    assert [f.name for f in files] == ["model.encoder.mlpackage", "model.decoder.mlpackage", "model.mlpackage.json"]
    for name, sign in (("encoder", 1.0), ("decoder", -1.0)):
        (y,) = target.load(tmp_path / f"model.{name}.mlpackage").run(np.ones((1, 4), np.float32))
        np.testing.assert_array_equal(y, sign * np.ones((1, 4)))


def test_nothing_half_written(tmp_path, monkeypatch):
    """A failure while writing leaves what was there, and no temporary folder."""
    written(small_conformer(), tmp_path)
    before = sorted((p.relative_to(tmp_path), p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file())
    monkeypatch.setattr(Manifest, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UsageError, match="No space left") as refusal:
        written(cached(), tmp_path)
    assert refusal.value.code == "SC060"
    assert sorted((p.relative_to(tmp_path), p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()) == before
    monkeypatch.undo()
    written(cached(), tmp_path)  # in the place of the other package
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.mlpackage", "model.mlpackage.json"]
    assert len(target.load(tmp_path / "model.mlpackage").manifest.states) == 3


def test_without_coremltools(tmp_path, monkeypatch):
    """Exit status 8, and the command that installs it."""
    import sys

    from speechc.ir.errors import MissingError

    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingError, match="coremltools is missing") as refusal:
        written(small_conformer(), tmp_path)
    assert refusal.value.exit_code == 8 and "speechc[coreml]" in str(refusal.value)


# -- the digits model ----------------------------------------------------------------------------------------------
STREAM = {"stream": "640ms", "attention": "chunk:640ms,left=2560ms", "conv": "chunk"}


@pytest.fixture(scope="module")
def recording():
    from speechc.compiler.audio import read_samples

    return next(iter(read_samples(DIGITS / "audio", 16000)))[:, : 4 * 16000 + 321]


@pytest.mark.slow
@pytest.mark.parametrize("precision,least", [("float32", 100.0), ("float16", 60.0), ("int8", 40.0)])
def test_digits(precision, least, recording, tmp_path):
    """The compilation proves the file; against the model in float32 the precision is what it costs."""
    made = speechc.compile(DIGITS / "model.pt", target="coreml", precision=precision, output=tmp_path)
    whole = speechc.compile(DIGITS / "model.pt", target="onnx", output=tmp_path)
    assert made.report["snr"] > least
    assert snr(made.run(recording)[0], whole.run(recording)[0]) > least
    assert made.session.runner in ("MIL interpreter", "Core ML")


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision,options,held,least",
    [
        ("float32", {}, 0, 100.0),
        ("float16", {}, 14, 55.0),
        ("float16", {"state": "explicit"}, 0, 55.0),
        ("int8", {"minimum_deployment": "iOS18"}, 14, 35.0),
    ],
    ids=str,
)
def test_digits_streams(precision, options, held, least, recording, tmp_path):
    """Chunks of any size, states held by Core ML or not: joined, the outputs are those of the whole."""
    step = speechc.compile(DIGITS / "model.pt", target="coreml", precision=precision, output=tmp_path, options=options,
                           **STREAM)  # fmt: skip
    whole = speechc.compile(DIGITS / "model.pt", target="coreml", precision=precision, output=tmp_path, name="whole",
                            **{k: v for k, v in STREAM.items() if k != "stream"})  # fmt: skip
    assert sum(p.native for p in step.manifest.states) == held
    assert all(p.dtype == "f16" for p in step.manifest.states if p.native)
    (expected,) = whole.run(recording)
    for cut in (10240, 777):
        stream = step.stream()
        parts = [stream.push(recording[:, i : i + cut])[0] for i in range(0, recording.shape[1], cut)]
        found = np.concatenate([*parts, stream.flush()[0]], 1)
        assert found.shape == expected.shape and snr(found, expected) > least

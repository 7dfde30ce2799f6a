"""TensorRT's files: the engine, its ONNX and manifest, the command that builds it again, profiles, errors, states."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import engines
import numpy as np
import onnx
import pytest
from models.steps import late
from speechc.ir.errors import MissingError, UnsupportedError, UsageError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import run
from speechc.ir.types import Tensor, time_input
from speechc.lowering.stream_session import BatchSession
from speechc.lowering.target import target as find_target
from speechc.lowering.tensorrt import target
from speechc.lowering.tensorrt.build import Settings, build
from speechc.lowering.tensorrt.prepare import prepare
from speechc.lowering.tensorrt.profiles import as_text, from_text, ranges, shapes, three
from speechc.lowering.tensorrt.write import write_module

rng = np.random.default_rng(0)


def net(batch=1, least=4) -> Module:
    """relu(x w + b) over time, and a per-utterance scale that broadcasts."""
    module = Module(meta={"limits": {"T": [least, 3000]}})
    graph = module.graph("main")
    b = Builder(graph, Loc("encoder.project", "Linear", "net.py:3"))
    x = graph.input("x", Tensor("f32", [batch, time_input(symbol("T"), "audio"), 8]))
    w, bias = (b.weight(n, rng.standard_normal(s, dtype=np.float32)) for n, s in (("w", (6, 8)), ("b", 6)))
    graph.output(b.relu(b.linear(x, w, bias)), "y")
    return module


def ranges_of(module, **asked):
    return ranges(module.main, module.meta["limits"], {}, **asked)


def test_files_and_manifest(tmp_path):
    written = target.emit(net(), tmp_path / "model.engine", "float32", {"profile": "10,50,200"})
    assert [f.name for f in written] == ["model.engine", "model.engine.onnx", "model.engine.json"]
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted(f.name for f in written)
    manifest = json.loads((tmp_path / "model.engine.json").read_text())
    facts = manifest["meta"]["tensorrt"]
    assert manifest["target"] == "tensorrt" and manifest["limits"] == {"T": [10, 200]}
    assert facts["profile"] == {"T": [10, 50, 200]} and facts["onnx"] == "model.engine.onnx"
    assert facts["layers"]["MATRIX_MULTIPLY f32"] == 1
    assert facts["tool"].endswith("--saveEngine=model.engine") and "--optShapes=x:1x50x8" in facts["tool"]
    onnx.checker.check_model(tmp_path / "model.engine.onnx", full_check=True)


def test_the_session_says_what_runs_it(tmp_path):
    module = net()
    session, _ = engines.emitted(module, tmp_path, profile="10,50,200")
    x = rng.standard_normal((1, 33, 8), dtype=np.float32)
    if session.runner.startswith("onnxruntime"):
        assert session.runner == "onnxruntime, on the prepared ONNX" and session.reason
    assert engines.error(session.run(x)[0], run(module.main, {"x": x})[0]) <= 1e-6
    with pytest.raises(UsageError, match="SC112"):  # outside the profile: the engine could not run it either
        session.run(np.zeros((1, 9, 8), np.float32))


def test_the_command_builds_the_engine_again(tmp_path):
    options = {"profile": [10, 50, 200], "compute_capability": "8.6,8.9"}
    _, facts = engines.emitted(net(), tmp_path, **options)
    first = (tmp_path / "model.engine").read_bytes()
    (tmp_path / "model.engine").unlink()
    words = shlex.split(facts["rebuild"])
    assert words[:3] == ["python", "-m", "speechc.lowering.tensorrt"]
    done = subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "model.engine").read_bytes()) == len(first)


def test_the_command_fails_with_a_status(tmp_path):
    engines.emitted(net(), tmp_path)
    words = [sys.executable, "-m", "speechc.lowering.tensorrt", "model.engine.onnx", "again.engine"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)  # no shapes for x
    assert done.returncode == 2 and "SC017" in done.stderr and not (tmp_path / "again.engine").exists()


@pytest.mark.parametrize("given", ["5", "1,2", "a,b,c", "3,2,1", "0,1,2", {"T": 3}])
def test_what_is_no_profile(given):
    if given == "5":
        assert three("profile", given) == (5, 5, 5)
        return
    with pytest.raises(UsageError, match="SC017"):
        three("profile", given)


def test_profiles():
    assert ranges_of(net()) == {"T": (4, 160, 2560)}
    assert ranges_of(net(), profile=[10, 50, 200]) == {"T": (10, 50, 200)}
    batch = net(batch=symbol("batch"))
    found = ranges_of(batch, profile="10,50,200", batch_profile="1,2,4")
    assert found == {"batch": (1, 2, 4), "T": (10, 50, 200)} and ranges_of(batch)["batch"] == (1, 1, 8)
    wanted = {"x": ((1, 10, 8), (2, 50, 8), (4, 200, 8))}
    assert shapes(batch.main, found) == wanted and from_text(as_text(wanted)) == wanted
    for asked, why in ({"profile": "1,50,200"}, "4 to 3000"), ({"batch_profile": "1,1,2"}, "no batch"):
        with pytest.raises(UsageError, match=why):
            ranges_of(net(), **asked)
    with pytest.raises(UsageError, match="NAME=LEAST"):
        from_text(["x=1x2"])


def test_frames_of_an_input_that_counts_in_multiples():
    module = Module(meta={"limits": {"N": [1, None]}})
    graph = module.graph("main")
    x = graph.input("x", Tensor("f32", [1, time_input(symbol("N") * 320, "audio")]))
    graph.output(Builder(graph, Loc("net")).tanh(x), "y")
    assert ranges_of(module, profile="320,3200,6400") == {"N": (1, 10, 20)}
    with pytest.raises(UsageError, match="100 is no size"):
        ranges_of(module, profile="100,3200,6400")


@pytest.mark.parametrize("options, why", [
    ({"compute_capability": "9.0"}, "does not build for it"),
    ({"workspace": "much"}, "workspace"),
    ({"colour": 1}, "no option colour"),
])  # fmt: skip
def test_options_that_do_not_fit(options, why, tmp_path):
    with pytest.raises(UsageError, match=why):
        engines.emitted(net(), tmp_path, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [8.6, "8.6", ["8.0", "8.9"], "12.0"])
def test_compute_capability(given, tmp_path):
    _, facts = engines.emitted(net(), tmp_path, compute_capability=given)
    assert facts["compute_capability"] == [str(c) for c in (given if isinstance(given, list) else [given])]


def test_a_gpu_that_lacks_the_arithmetic_names_the_module(tmp_path):
    with pytest.raises(UnsupportedError, match=r"SC321.*Turing") as error:
        engines.emitted(net(), tmp_path, compute_capability="7.5")
    assert error.value.exit_code == 4 and error.value.where == ["encoder.project (Linear, net.py:3)"]
    assert "/_src" not in str(error.value) and not list(tmp_path.iterdir())


def test_timing_cache(tmp_path):
    cache = tmp_path / "timings"
    _, facts = engines.emitted(net(), tmp_path, timing_cache=str(cache))
    size = cache.stat().st_size
    assert size and str(cache) in facts["rebuild"]
    engines.emitted(net(), tmp_path, timing_cache=str(cache))
    assert cache.stat().st_size == size


def test_every_node_that_the_parser_refuses_is_named_by_module(tmp_path):
    model, e = prepare(net().main, {})
    for node in model.graph.node:
        node.op_type = {"MatMul": "DynamicQuantizeLinear", "Relu": "Unknown"}.get(node.op_type, node.op_type)
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(UnsupportedError, match="SC320") as error:
        build(tmp_path / "bad.onnx", Settings(), e.places)
    assert error.value.exit_code == 4 and len(error.value.where) == 2
    assert all(w.startswith("encoder.project (Linear, net.py:3): ") for w in error.value.where)


def test_neither_package(monkeypatch, tmp_path):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)  # what a missing package looks like to import
    with pytest.raises(MissingError, match="SC800") as error:
        engines.emitted(net(), tmp_path)
    assert error.value.exit_code == 8 and any("pip install" in hint for hint in error.value.hints)


def test_weights_beside_the_file(tmp_path):
    module = Module()
    graph = module.graph("main")
    b = Builder(graph, Loc("net.a"))
    x = graph.input("x", Tensor("f32", [1, 5, 64]))
    graph.output(b.linear(x, b.weight("w", rng.standard_normal((64, 64), dtype=np.float32)), None), "y")
    written = write_module(module, tmp_path / "model.engine", "float32", {}, external_above=1000)
    assert (tmp_path / "model.engine.onnx.data") in written
    session, array = target.load(tmp_path / "model.engine"), rng.standard_normal((1, 5, 64), dtype=np.float32)
    assert engines.error(session.run(array)[0], run(graph, {"x": array})[0]) <= 1e-5


def test_several_graphs(tmp_path):
    module = net()
    other = module.graph("predictor")
    other.output(Builder(other, Loc("predictor")).tanh(other.input("p", Tensor("f32", [1, 4]))), "q")
    written = target.emit(module, tmp_path / "model.engine", "float32", {})
    names = {f.name for f in written}
    assert {"model.main.engine", "model.predictor.engine", "model.predictor.engine.onnx"} <= names
    session = target.load(tmp_path / "model.predictor.engine")
    np.testing.assert_allclose(session.run(np.ones((1, 4), np.float32))[0], np.tanh(np.ones((1, 4))), rtol=1e-6)


def test_nothing_that_tensorrt_refuses_is_written(tmp_path):
    """int8: Q/DQ with zero points 0, biases in float, no products in integers; as the issue wants it."""
    from test_tensorrt_network import small

    module, _ = engines.compiled(small(), "int8", calibrated=True)
    model, _ = prepare(module.main, {})
    known = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count("QuantizeLinear") == 2 and kinds.count("DequantizeLinear") == 4
    assert not set(kinds) & {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul"}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not known[node.input[2]].any() and known[node.input[2]].dtype == np.int8
    assert not any(a.dtype == np.int32 for a in known.values())
    assert not any(0 in [d.dim_value for d in t.shape.dim if not d.dim_param] for t in
                   (v.type.tensor_type for v in (*model.graph.input, *model.graph.output)))  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2])
def test_a_step_file(batch, tmp_path):
    """States are bindings of fixed size, in and out of one type; streamed, the chunks are the whole."""
    whole, step = late(batch=batch)
    session, facts = engines.emitted(step, tmp_path)
    assert facts["profile"] == {}
    model = onnx.load(tmp_path / "model.engine.onnx")
    ports = {v.name: v.type for v in (*model.graph.input, *model.graph.output)}
    for state in session.manifest.states:
        assert state.file_name == f"state.{state.name}" and state.output == f"state.{state.name}.out"
        assert ports[state.file_name] == ports[state.output]
        assert all(d.dim_value > 0 for d in ports[state.output].tensor_type.shape.dim)
    assert not {t.name for t in model.graph.initializer} & set(ports)
    x = rng.standard_normal((1, 3, 22), dtype=np.float32)
    stream = BatchSession(session).streams[0]
    parts = [stream.push(x[:, :, :7]), stream.push(x[:, :, 7:]), stream.flush()]
    joined = np.concatenate([p[0] for p in parts], -1)
    plain = find_target("onnx")
    plain.emit(whole, tmp_path / "whole.onnx", "float32", {})
    rows = np.repeat(x, batch, 0)
    wanted = plain.load(tmp_path / "whole.onnx").run(rows)[0][:1]
    assert joined.shape == wanted.shape and engines.error(joined, wanted) <= 1e-5


def test_the_docs_say_what_the_options_are():
    import speechc

    text = (Path(speechc.__file__).parent / "docs" / "tensorrt.md").read_text()
    for option in target.options:
        assert re.search(rf"--{option.name.replace('_', '-')}\b", text), option.name

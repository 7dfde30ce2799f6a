"""TFLite files and sessions: names, lengths, states, options, precisions, and what happens when something is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from speechc.ir.errors import NumericalError, UnsupportedError, UsageError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.interpreter import initial_states, run
from speechc.ir.types import Tensor, time_input
from speechc.lowering.tflite import file as file_module
from speechc.lowering.tflite import target
from speechc.lowering.tflite.file import File
from speechc.passes.base import Context, make

RNG = np.random.default_rng(3)


def normal(*shape):
    return (RNG.standard_normal(shape) * 0.3).astype(np.float32)


def graph_of(channels=8, length=None):
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("encoder.layers.0"))
    x = g.input("features", Tensor("f32", (1, time_input(length or symbol("T"), "frames"), channels)))
    return module, g, b, x


def small():
    module, g, b, x = graph_of()
    w, bias = b.weight("encoder.layers.0.weight", normal(6, 8)), b.weight("encoder.layers.0.bias", normal(6))
    g.output(b.relu(b.linear(x, w, bias)), "logits")
    return module


def content(path):
    return File().schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)


def test_names_and_unknown_lengths(tmp_path):
    path, described = target.emit(small(), tmp_path / "m.tflite", "float32", {})
    model = content(path)
    (signature,) = model.signatureDefs
    graph = model.subgraphs[0]
    assert [m.name for m in signature.inputs] == [b"features"] and [m.name for m in signature.outputs] == [b"logits"]
    x = graph.tensors[signature.inputs[0].tensorIndex]
    assert list(x.shapeSignature) == [1, -1, 8]
    names = {t.name.decode() for t in graph.tensors}
    assert {"encoder.layers.0.weight", "encoder.layers.0.bias", "features", "logits"} <= names
    assert len(graph.operators) == 1  # the relu is part of the product
    assert json.loads(described.read_text())["outputs"][0]["name"] == "logits"


def test_one_session_runs_at_every_length(tmp_path):
    module = small()
    path, _ = target.emit(module, tmp_path / "m.tflite", "float32", {})
    session = target.load(path, threads=2)
    for length in (1, 7, 7, 300, 2):
        x = normal(1, length, 8)
        np.testing.assert_allclose(session.run(x)[0], run(module.main, {"features": x})[0], atol=1e-6)
    session.close()


def test_a_number_in_and_out(tmp_path):
    module = Module()
    g = module.graph("main")
    g.output(Builder(g, Loc("gain")).tanh(g.input("x", Tensor("f32", ()))), "y")
    path, _ = target.emit(module, tmp_path / "m.tflite", "float32", {})
    (y,) = target.load(path).run(np.array(0.5, np.float32))
    assert y.shape == () and abs(y - np.tanh(0.5)) < 1e-6


def test_the_file_can_be_allocated_as_it_is(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    module, g, b, x = graph_of()
    g.output(b.conv(x, b.weight("w", normal(4, 8, 9)), None, stride=(3,), channel_last=True), "y")
    path, _ = target.emit(module, tmp_path / "m.tflite", "float32", {})
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()  # a length at which every size is positive
    interpreter.invoke()


# -- states --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("initial", [0.5, "stored"])
def test_states_go_from_call_to_call(tmp_path, initial):
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("cache"))
    x = g.input("x", Tensor("f32", (1, 4)))
    start = module.weights.add("start", normal(1, 4)) if initial == "stored" else initial
    state = g.state("sum", Tensor("f32", (1, 4)), start)
    total = b.add(b.read(state), x)
    b.write(state, total)
    g.output(total, "total")
    path, _ = target.emit(module, tmp_path / "m.tflite", "float32", {})
    signature = content(path).signatureDefs[0]
    assert {m.name for m in signature.inputs} == {b"x", b"state.sum"}
    assert {m.name for m in signature.outputs} == {b"total", b"state.sum.out"}
    session = target.load(path)
    for _ in range(2):
        states = initial_states(g)
        for _ in range(3):
            a = normal(1, 4)
            np.testing.assert_allclose(session.run(a)[0], run(g, {"x": a}, states)[0], atol=1e-6)
        session.reset()
    session.close()


def test_what_the_worker_has_is_not_sent_again_unless_it_may_have_changed(tmp_path, monkeypatch):
    from speechc.lowering.tflite import run as running

    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("cache"))
    x, y = (g.input(name, Tensor("f32", (1, 4))) for name in "xy")
    state = g.state("sum", Tensor("f32", (1, 4)), 0.0)
    total = b.add(b.read(state), b.sub(x, y))
    b.write(state, total)
    g.output(b.tanh(total), "total")
    path, _ = target.emit(module, tmp_path / "m.tflite", "float32", {})
    session, sent = target.load(path, threads=1), []
    right = running.send
    monkeypatch.setattr(running, "send", lambda pipe, message: (sent.append(message), right(pipe, message)))
    fixed, buffer, states = normal(1, 4), normal(1, 4), initial_states(g)
    fixed.flags.writeable = False
    for _ in range(3):
        np.testing.assert_allclose(
            session.run(buffer, fixed)[0], run(g, {"x": buffer, "y": fixed}, states)[0], atol=1e-6
        )
        buffer += 1  # the same array, other numbers
    arrays = [{n for n, a in given[0].items() if isinstance(a, np.ndarray)} for _, given in sent]
    assert arrays == [{"x", "y", "state.sum"}, {"x"}, {"x"}]
    session.close()


# -- recurrences ---------------------------------------------------------------------------------------------------
def recurrent(reverse=False):
    module, g, b, x = graph_of()
    zero = b.weight("zero", np.zeros((1, 5), np.float32))
    w, r, bias = b.weight("w", normal(20, 8)), b.weight("r", normal(20, 5)), b.weight("b", normal(20))
    y, _, _ = b.lstm(x, zero, zero, w, r, bias, reverse=reverse)
    g.output(y, "y")
    return module


@pytest.mark.parametrize("reverse", [False, True])
def test_fused_lstm_is_an_option_and_needs_a_reset(tmp_path, reverse):
    module = recurrent(reverse)
    plain, _ = target.emit(module, tmp_path / "plain.tflite", "float32", {})
    fused, _ = target.emit(module, tmp_path / "fused.tflite", "float32", {"fused_lstm": True})
    loop, kernel = target.load(plain), target.load(fused)
    assert loop.manifest.reset is None and kernel.manifest.reset == "reset_all_variables"
    assert "WHILE" in loop.operators() and "UNIDIRECTIONAL_SEQUENCE_LSTM" in kernel.operators()
    for length in (3, 11, 3):  # the second call would go on from the first one's state without the reset
        x = normal(1, length, 8)
        (wanted,) = run(module.main, {"features": x})
        for session in (loop, kernel):
            np.testing.assert_allclose(session.run(x)[0], wanted, atol=1e-6)
    loop.close()
    kernel.close()


@pytest.mark.parametrize("reverse", [False, True])
def test_loops_over_many_blocks_of_frames(tmp_path, reverse):
    module = recurrent(reverse)
    path, _ = target.emit(module, tmp_path / "m.tflite", "float32", {})
    session = target.load(path)
    for length in (31, 32, 33, 64, 150):
        x = normal(1, length, 8)
        np.testing.assert_allclose(session.run(x)[0], run(module.main, {"features": x})[0], atol=1e-6)
    session.close()


def test_lstm_that_starts_elsewhere_stays_a_loop(tmp_path):
    module, g, b, x = graph_of()
    h = g.input("h", Tensor("f32", (1, 5)))
    zero = b.weight("zero", np.zeros((1, 5), np.float32))
    y, last, _ = b.lstm(x, h, zero, b.weight("w", normal(20, 8)), b.weight("r", normal(20, 5)))
    g.output(y, "y")
    g.output(last, "last")
    path, _ = target.emit(module, tmp_path / "m.tflite", "float32", {"fused_lstm": True})
    session = target.load(path)
    feeds = {"features": normal(1, 6, 8), "h": normal(1, 5)}
    found = session.run_named(feeds)
    for name, wanted in zip(("y", "last"), run(g, feeds)):
        np.testing.assert_allclose(found[name], wanted, atol=1e-6)
    session.close()


# -- precisions ----------------------------------------------------------------------------------------------------
def test_float16_weights(tmp_path):
    module, g, b, x = graph_of()
    y = b.linear(x, b.weight("w", normal(256, 8)), b.weight("b", normal(256)))
    y = b.conv(y, b.weight("cw", normal(16, 256, 3)), None, pad=((1, 1),), channel_last=True)
    g.output(y, "y")
    whole, _ = target.emit(module, tmp_path / "f32.tflite", "float32", {})
    x = normal(1, 20, 8)
    (wanted,) = run(g, {"features": x})
    make("float16-weights").run(g, Context())
    half, _ = target.emit(module, tmp_path / "f16.tflite", "float16", {})
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    session = target.load(half)
    (found,) = session.run(x)
    assert np.abs(found - run(g, {"features": x})[0]).max() <= 1e-5
    assert np.abs(found - wanted).max() <= 2e-3 * np.abs(wanted).max()  # 11 bits a weight
    assert session.operators().count("DELEGATE") == 1
    session.close()


# -- what goes wrong -----------------------------------------------------------------------------------------------
def test_a_damaged_file_does_not_end_this_process(tmp_path):
    path, _ = target.emit(small(), tmp_path / "m.tflite", "float32", {})
    data = bytearray(path.read_bytes())
    for damage in (data[: len(data) // 2], b"not a model", data[:200] + bytes(300) + data[500:]):
        path.write_bytes(damage)
        with pytest.raises(NumericalError) as error:
            session = target.load(path)
            session.run(normal(1, 5, 8))
        assert error.value.code in ("SC510", "SC511") and error.value.exit_code == 5


def test_wrong_inputs(tmp_path):
    path, _ = target.emit(small(), tmp_path / "m.tflite", "float32", {})
    session = target.load(path)
    for arrays, code in [
        ((), "SC110"),
        ((normal(5, 8),), "SC111"),
        ((np.zeros((1, 5, 8)),), "SC111"),
        ((normal(1, 5, 9),), "SC112"),
    ]:
        with pytest.raises(UsageError) as error:
            session.run(*arrays)
        assert error.value.code == code
    with pytest.raises(UsageError):
        session.run_named({"features": normal(1, 5, 8), "more": normal(1)})
    session.close()


def test_nothing_is_left_where_writing_fails(tmp_path, monkeypatch):
    with pytest.raises(UsageError) as error:
        target.emit(small(), tmp_path / "missing" / "m.tflite", "float32", {})
    assert error.value.code == "SC060"
    before = b"what was there"
    (tmp_path / "m.tflite").write_bytes(before)

    def full(self, path, description):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(File, "write", full)
    with pytest.raises(UsageError) as error:
        target.emit(small(), tmp_path / "m.tflite", "float32", {})
    assert "No space left" in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
    assert (tmp_path / "m.tflite").read_bytes() == before


def test_more_than_two_gigabytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(file_module, "LIMIT", 100)
    with pytest.raises(UnsupportedError) as error:
        target.emit(small(), tmp_path / "m.tflite", "float32", {})
    assert error.value.code == "SC314" and not list(tmp_path.iterdir())


def test_what_is_not_legal_is_listed_at_once(tmp_path):
    module, g, b, x = graph_of()
    y = b.cast(b.cast(x, dtype="f64"), dtype="f32")
    y = b.conv(b.transpose(y, perm=(0, 2, 1)), b.weight("w", normal(4, 8, 3)), None)
    g.output(y, "y")
    with pytest.raises(UnsupportedError) as error:
        target.emit(module, tmp_path / "m.tflite", "float32", {})
    assert error.value.exit_code == 4 and len(error.value.where) == 3
    assert "f64" in str(error.value) and "channels" in str(error.value) and "encoder.layers.0" in str(error.value)


def test_large_integers_are_refused(tmp_path):
    module = Module()
    g = module.graph("main")
    b = Builder(g, Loc("tokens"))
    x = g.input("x", Tensor("i64", (3,)))
    g.output(b.add(x, b.const(2**40, "i64")), "y")
    with pytest.raises(UnsupportedError) as error:
        target.emit(module, tmp_path / "m.tflite", "float32", {})
    assert error.value.code == "SC312"


def test_unknown_option(tmp_path):
    with pytest.raises(UsageError):
        target.emit(small(), tmp_path / "m.tflite", "float32", {"fast": True})

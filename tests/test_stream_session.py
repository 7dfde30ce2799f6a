"""Step graphs run chunk by chunk give the whole: in the interpreter and in sessions on files."""

import json
from itertools import pairwise

import numpy as np
import pytest
from models.steps import causal, late
from speechc.compiler.step_runner import GraphSession, run_stream
from speechc.ir.errors import NumericalError, UnsupportedError, UsageError
from speechc.ir.graph import Builder, Module
from speechc.ir.interpreter import initial_states
from speechc.ir.interpreter import run as interpret
from speechc.ir.types import Tensor
from speechc.ir.verifier import verify
from speechc.lowering.manifest import Manifest, initial_array, manifest_of
from speechc.lowering.stream_session import BatchSession
from speechc.lowering.target import target
from speechc.passes.base import Context, make

CASES = {"causal": causal, "late": late}
# One float32 convolution, summed in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def sample(frames, batch=1, seed=1):
    return np.random.default_rng(seed).standard_normal((batch, 3, frames)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 11, 30])
def test_the_interpreter_gives_the_whole(name, frames):
    whole, step = CASES[name](chunk=4)
    verify(whole)
    verify(step)
    x = sample(frames)
    expected = interpret(whole.main, {"x": x})
    for tail in (np.nan, np.inf, 1e4):
        streamed = run_stream(step.main, {"x": x}, tail=tail)
        assert len(streamed) == len(expected)
        for a, b in zip(streamed, expected):
            np.testing.assert_allclose(a, b, **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_streams_of_unlike_length_in_one_batch(name):
    lengths = [9, 3, 16]
    whole, _ = CASES[name]()
    _, step = CASES[name](batch=3)
    x = sample(16, batch=3)
    streams = run_stream(step.main, {"x": x}, lengths=lengths)
    for i, n in enumerate(lengths):
        for a, b in zip(streams[i], interpret(whole.main, {"x": x[i : i + 1, :, :n]}), strict=True):
            np.testing.assert_allclose(a, b, **CLOSE)


def test_a_range_that_is_wrong_is_found_out():
    _, step = late()
    wrong = lambda graph, feeds, states: [
        a + (a.dtype == np.int32) * np.int32([[0, -1]]) if a.dtype == np.int32 else a
        for a in interpret(graph, feeds, states)
    ]
    with pytest.raises(NumericalError, match="frames"):
        run_stream(step.main, {"x": sample(9)}, run=wrong)


# -- sessions --------------------------------------------------------------------------------------------------------
def opened(name, kind, folder, batch=1, chunk=4):
    """(reference on one stream, batch session) on the interpreter or on a file."""
    whole, step = CASES[name](chunk=chunk, batch=1)[0], CASES[name](chunk=chunk, batch=batch)[1]
    reference = lambda x: interpret(whole.main, {"x": x})
    if kind == "graph":
        return reference, BatchSession(GraphSession(step.main, step.meta))
    to = target(kind)
    for p in to.legalize_for("float32"):
        make(p).run(step.main, Context())
    path = folder / f"step{to.suffix}"
    to.emit(step, path, "float32", {})
    return reference, BatchSession(to.load(path, 1), tail=np.nan)


def joined(parts):
    return [np.concatenate(p, -1) for p in zip(*parts, strict=True)]


def splits(frames, seed):
    """Random pieces, empty ones and ones of several chunks among them, that make `frames`."""
    random = np.random.default_rng(seed)
    cuts = sorted(random.integers(0, frames + 1, random.integers(0, 7)))
    return [0, *cuts, frames]


KINDS = ("graph", "onnx", "tflite")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_any_chunks_in_and_the_whole_comes_out(name, kind, tmp_path):
    reference, batch = opened(name, kind, tmp_path)
    (session,) = batch.streams
    for seed, frames in enumerate([1, 3, 4, 9, 26, 8, 2]):
        x, cuts = sample(frames, seed=seed), splits(frames, seed)
        parts = [session.push(x[:, :, a:b]) for a, b in pairwise(cuts)]
        for a, b in zip(joined([*parts, session.flush()]), reference(x), strict=True):
            np.testing.assert_allclose(a, b, **CLOSE)
        session.reset()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_streams_of_a_batch_do_not_see_each_other(name, kind, tmp_path):
    reference, batch = opened(name, kind, tmp_path, batch=3)
    random = np.random.default_rng(0)
    whole = [[sample(n, seed=n) for n in ns] for ns in ((9, 5), (3, 17), (16,))]  # utterances, one after another
    at, parts, done = [0] * 3, [[] for _ in range(3)], [[] for _ in range(3)]
    while any(whole):
        turn = [i for i in range(3) if whole[i] and random.random() < 0.6]
        chunks = {}
        for i in turn:
            n = int(random.integers(0, 7))
            chunks[i], at[i] = (whole[i][0][:, :, at[i] : at[i] + n],), at[i] + n
        for i, out in batch.step(chunks).items():
            parts[i].append(out)
        for i in turn:
            if at[i] >= whole[i][0].shape[2]:
                parts[i].append(batch.streams[i].flush())
                done[i].append((joined(parts[i]), reference(whole[i].pop(0))))
                at[i], parts[i] = 0, []
                batch.streams[i].reset()
    assert [len(d) for d in done] == [2, 2, 1]
    for got, expected in (pair for d in done for pair in d):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, **CLOSE)


def test_nothing_pushed_is_nothing_out(tmp_path):
    _, batch = opened("late", "graph", tmp_path)
    y, peak = batch.streams[0].flush()
    assert y.shape == (1, 3, 0) and peak.shape == (1, 0) and y.dtype == np.float32


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (np.zeros((1, 4, 5), np.float32), "f32[1, 3, frames]"),
        (np.zeros((2, 3, 5), np.float32), "not float32[2, 3, 5]"),
        (np.zeros((1, 3, 5), np.int64), "int64"),
        (np.zeros(5, np.float32), "[5]"),
    ],
)
def test_a_chunk_that_does_not_fit(chunk, words, tmp_path):
    (session,) = opened("late", "graph", tmp_path)[1].streams
    with pytest.raises(UsageError) as error:
        session.push(chunk)
    assert error.value.code == "SC213" and words in error.value.message


def test_what_a_session_refuses(tmp_path):
    _, batch = opened("late", "graph", tmp_path, batch=2)
    session = batch.streams[1]
    for wrong in (lambda: session.push(), lambda: batch.step({2: (sample(3),)})):
        with pytest.raises(UsageError, match=r"a chunk is|no stream 2"):
            wrong()
    session.push(sample(9))
    session.flush()
    for again in (lambda: session.push(sample(1)), session.flush):
        with pytest.raises(UsageError, match="has ended"):
            again()
    batch.streams[0].push(sample(1))
    session.reset()
    session.push(sample(1))


def test_positions_that_end(tmp_path):
    _, step = late()
    step.meta["limits"] = {"T": [1, 10]}
    (session,) = BatchSession(GraphSession(step.main, step.meta)).streams
    session.push(sample(10))
    with pytest.raises(UnsupportedError, match="11 frames of x") as error:
        session.push(sample(1))
    assert error.value.code == "SC211"
    facts = {"chunk": 4, "batch": 1, "clock": "audio", "length": "T", "symbol": "T"}
    told = manifest_of(step.main, "a", "onnx", "float32", step.meta | {"streaming": facts}).streaming
    assert told["max_frames"] == 10


def test_states_by_name():
    session = GraphSession(late()[1].main)
    session.set_state("clock.seen", np.int32([4]))
    assert session.state("clock.seen") == 4
    for name, value, code in (("clock", np.int32([4]), "SC110"), ("clock.seen", np.int32([4, 5]), "SC111"),
                              ("clock.seen", np.float32([4]), "SC111")):  # fmt: skip
        with pytest.raises(UsageError) as error:
            session.set_state(name, value)
        assert error.value.code == code
    session.reset()
    assert session.state("clock.seen") == 0


def test_a_whole_file_does_not_stream():
    whole, _ = late()
    with pytest.raises(UsageError, match="whole utterances"):
        BatchSession(GraphSession(whole.main, whole.meta))


def test_the_manifest_says_how_to_stream(tmp_path):
    _, batch = opened("late", "onnx", tmp_path)
    m = Manifest.load(tmp_path / "step.onnx.json")
    s = m.streaming
    assert (s["chunk"], s["batch"], s["clock"], s["tick_hz"], s["chunk_ms"]) == (4, 1, "audio", 100, 40.0)
    # One frame of y is two ticks of 10 ms.
    assert s["outputs"]["y"] == {
        "rate": "1/2",
        "delay": 1,
        "length": "(T+1)//2",
        "latency_ms": 20.0,
        "range": "y.range",
    }
    assert s["state_bytes"] == 4 * 3 * 4 + 4 + 4
    assert "n_valid" in s["flush"]["text"] and s["flush"]["n_valid"] == "n_valid"
    assert {p.name: (p.initial, p.output, p.batch_axis) for p in m.states} == {
        "front.conv.history": (0, "state.front.conv.history.out", 0),
        "clock.seen": (0, "state.clock.seen.out", 0),
        "clock.end": (1 << 30, "state.clock.end.out", 0),
    }


@pytest.mark.parametrize("initial", [0, -3, float("-inf"), np.float32([[1.5, -np.inf]]), np.int32([[7, -9]])])
def test_initial_values_survive_the_manifest(initial, tmp_path):
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", [1]))
    array = np.asarray(initial)
    dtype = "i32" if array.dtype == np.int32 else "f32"
    s = g.state("s", Tensor(dtype, [1, 2]), module.weights.add("w", array) if array.ndim else initial)
    g.output(Builder(g).read(s), "y")
    manifest_of(g, "m", "t", "float32", {}).save(tmp_path / "m.json")
    json.loads((tmp_path / "m.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    (port,) = Manifest.load(tmp_path / "m.json").states
    np.testing.assert_array_equal(initial_array(port), initial_states(g)["s"])
    assert initial_array(port).dtype == initial_states(g)["s"].dtype and x.type.rank == 1

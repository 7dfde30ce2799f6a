"""What callers may do with sessions: one buffer for all chunks, float64, streams that are not there, chunks refused."""

import numpy as np
import pytest
import speechc
from models.steps import late
from speechc.compiler.run_file import run_file
from speechc.compiler.step_runner import GraphSession
from speechc.ir.errors import UsageError
from speechc.ir.interpreter import run as interpret
from speechc.lowering.stream_session import BatchSession, ManyStreams
from speechc.lowering.target import target
from speechc.passes.base import Context, make

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # one float32 convolution, summed in another order


def sample(frames):
    return np.random.default_rng(frames).standard_normal((1, 3, frames)).astype(np.float32)


def batch_of(streams):
    return BatchSession(GraphSession(late(chunk=8, batch=streams)[1].main))


def whole(x):
    return interpret(late(chunk=8)[0].main, {"x": x})


def same(parts, x):
    for a, b in zip((np.concatenate(p, -1) for p in zip(*parts, strict=True)), whole(x), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


@pytest.mark.parametrize("frames", [5, 8, 19])
def test_one_buffer_for_all_chunks(frames):
    (session,) = batch_of(1).streams
    x, buffer, parts = sample(5 * frames), np.empty((1, 3, frames), np.float32), []
    for piece in np.split(x, 5, 2):
        buffer[:] = piece
        parts.append(session.push(buffer))
    buffer[:] = 99
    same([*parts, session.flush()], x)


def test_a_buffer_filled_anew_before_the_end():
    (session,) = batch_of(1).streams
    x = sample(5)
    buffer = x.copy()
    parts = [session.push(buffer)]
    buffer[:] = 99
    same([*parts, session.flush()], x)


def test_float64_is_taken_as_float32():
    (session,) = batch_of(1).streams
    x = sample(19)
    parts = [session.push(piece.astype(np.float64)) for piece in np.split(x, [3, 12], 2)]
    got = [*parts, session.flush()]
    assert all(a.dtype == np.float32 for a in got[-1])
    same(got, x)


@pytest.mark.parametrize("make_many", [batch_of, lambda n: ManyStreams(GraphSession(late(chunk=8)[1].main), n)])
@pytest.mark.parametrize("stream", [9, -1, 2])
def test_a_stream_that_is_not_there(make_many, stream):
    many = make_many(2)
    first = many.streams[0].push(sample(5))
    for wrong in (many.reset, many.flush, lambda streams: many.step(dict.fromkeys(streams, (sample(9),)))):
        with pytest.raises(UsageError, match=f"no stream {stream}") as error:
            wrong([0, stream])
        assert error.value.code == "SC213"
    same([first, many.streams[0].flush()], sample(5))  # nothing happened to the other


def test_only_one_stream_is_reset():
    single = batch_of(1)
    with pytest.raises(UsageError, match="no stream 9"):
        single.reset([9])
    parts = [single.streams[0].push(sample(5))]
    single.reset([])
    same([*parts, single.streams[0].flush()], sample(5))


@pytest.mark.parametrize("make_many", [batch_of, lambda n: ManyStreams(GraphSession(late(chunk=8)[1].main), n)])
def test_a_refused_chunk_takes_none_of_the_others(make_many):
    many, x = make_many(2), sample(19)
    with pytest.raises(UsageError, match="a chunk of x"):
        many.step({0: (x,), 1: (x[:, :2],)})
    same([many.step({0: (x,)})[0], many.flush([0])[0]], x)


@pytest.fixture
def step_file(tmp_path):
    _, step = late(chunk=8)
    to = target("onnx")
    for p in to.legalize_for("float32"):
        make(p).run(step.main, Context())
    to.emit(step, tmp_path / "step.onnx", "float32", {})
    return tmp_path / "step.onnx"


@pytest.mark.parametrize("streams", [0, -1])
def test_no_streams_at_all(streams, step_file):
    with pytest.raises(UsageError, match="1 or more") as error:
        speechc.load(step_file).stream(streams)
    assert error.value.code == "SC213"


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_run_takes_float64(suffix, step_file):
    source, x = step_file.with_name(f"x.{suffix}"), sample(19).astype(np.float64)
    np.save(source, x) if suffix == "npy" else np.savez(source, x=x)
    assert list(run_file(step_file, source))[-1].final

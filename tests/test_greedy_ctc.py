"""Greedy CTC in the graph: a token a frame or -1, on whole utterances, chunk by chunk, and in the files."""

import numpy as np
import pytest
from speechc.compiler.step_runner import run_stream
from speechc.ir.errors import UsageError
from speechc.ir.interpreter import run as interpret
from speechc.ir.text import clone, retyped
from speechc.ir.verifier import verify
from speechc.lowering.streaming import CLOCK_INPUT
from speechc.lowering.target import target
from speechc.passes.base import Context, make
from stream_net import LENGTHS, Net, signals, step_of

CLASSES = 4


def expected(scores, blank):
    """[frames, classes] -> the class of each frame where it is none of: blank, the class before."""
    tokens, before = [], blank
    for frame in scores:
        best = int(np.argmax(frame))
        tokens.append(-1 if best in (blank, before) else best)
        before = best
    return tokens


def built(last=True, right=1, batch=1):
    """Log-probabilities of x through a convolution that looks ahead; blank is likely, and classes stay for a while."""
    b = Net(batch)
    y = b.late(b.x, right) if right else b.x
    y = b.conv(b.avg_pool(y, kernel=(3,), stride=(1,), pad=((2, 0),)), b.w(CLASSES, 3, 1, scale=4.0), b.w(CLASSES))
    y = b.log_softmax(b.rows(y), axis=2) if last else b.log_softmax(y, axis=1)
    b.graph.output(y, "scores")
    return b.module


def with_tokens(module, text="greedy-ctc"):
    made = clone(module)
    make(text).run(made.main, Context())
    verify(made)
    return made


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("blank", [0, CLASSES - 1])
def test_tokens_are_the_best_path(last, blank):
    module = retyped(with_tokens(built(last), f"greedy-ctc{{blank={blank}}}"))
    assert module.main.output_names == ["scores", "tokens"]
    for n in (1, 2, 40):
        scores, tokens = interpret(module.main, {"x": signals([n], n)})
        rows = scores[0] if last else scores[0].T
        assert tokens.dtype == np.int32 and tokens[0].tolist() == expected(rows, blank)
    assert len(set(tokens[0])) > 2 and -1 in tokens[0]


@pytest.mark.parametrize("right", [0, 1, 3])
@pytest.mark.parametrize("blank", [0, 2])
def test_streamed_tokens_are_those_of_the_whole(right, blank):
    whole = retyped(with_tokens(built(right=right), f"greedy-ctc{{blank={blank}}}"))
    step = step_of(whole, 1)
    assert any(v.type.dtype in ("i32", "i64") and "clock" not in name for name, v in step.main.states.items())
    for n in (1, 3, 4, 11, 40):
        x = signals([n], n)
        for got, want in zip(run_stream(step.main, {"x": x}), interpret(whole.main, {"x": x}), strict=True):
            assert np.allclose(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("batch", [1, 3])
def test_every_stream_has_its_own_last_token(batch):
    whole = retyped(with_tokens(built(), "greedy-ctc{blank=1}"))
    step = step_of(retyped(with_tokens(built(batch=batch), "greedy-ctc{blank=1}")), 3)
    x = signals(LENGTHS)
    for i, (_, tokens) in enumerate(run_stream(step.main, {"x": x}, lengths=LENGTHS)):
        (_, want) = interpret(whole.main, {"x": x[i : i + 1, :, : LENGTHS[i]]})
        assert np.array_equal(tokens, want)


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
@pytest.mark.parametrize("streamed", [False, True])
def test_files_give_the_tokens(kind, streamed, tmp_path):
    whole, to = with_tokens(built()), target(kind)
    made = step_of(whole, 1) if streamed else clone(whole)
    for p in to.legalize_for("float32"):
        make(p).run(made.main, Context())
    made.main.sweep()
    to.check(made.main)
    path = tmp_path / f"ctc{to.suffix}"
    to.emit(made, path, "float32", {})
    session = to.load(path, 1)
    for n in (16, 37):
        x = signals([n], n).astype(np.float32)
        want = interpret(whole.main, {"x": x})
        if streamed:
            session.reset()
            got = run_stream(made.main, {"x": x}, run=lambda graph, feeds, states: in_order(graph, session, feeds))
        else:
            got = in_order(made.main, session, {"x": x})
        assert np.abs(got[0] - want[0]).max() < 1e-5 * np.abs(want[0]).max()
        assert got[1].dtype == np.int32 and np.array_equal(got[1], want[1])


def in_order(graph, session, feeds):
    made = session.run_named({v.name: feeds[v.name] for v in graph.inputs if v.name in (*feeds, CLOCK_INPUT)})
    return [made[name] for name in graph.output_names]


def test_what_has_no_classes_is_refused():
    module = built()
    with pytest.raises(UsageError, match="no log-probabilities") as error:
        make("greedy-ctc{output='words'}").run(module.main, Context())
    assert error.value.code == "SC022" and "scores" in error.value.message
    with pytest.raises(UsageError):
        make(f"greedy-ctc{{output='scores', blank={CLASSES}}}").run(module.main, Context())
    module, context = with_tokens(module), Context()
    make("greedy-ctc").run(module.main, context)
    assert context.remarks[0].kind == "missed" and module.main.output_names == ["scores", "tokens"]

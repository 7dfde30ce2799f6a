"""The tools around streaming: opt, inspect, diff, dumps and ops on step graphs; what messages say in milliseconds."""

from fractions import Fraction

import numpy as np
import pytest
import speechc
from command import run as command
from models.steps import late
from speechc.compiler.durations import in_time
from speechc.ir.interpreter import run as interpret
from speechc.ir.registry import OPS
from speechc.ir.text import load, save
from speechc.passes.stream.rules import RULES, standing
from stream_net import Net

STEP = "streaming{chunk=8}"


@pytest.fixture
def folder(tmp_path):
    """late.sir: a model of 10 ms features, every other frame a frame late."""
    save(late()[0], tmp_path / "late.sir")
    return tmp_path


# -- tools -----------------------------------------------------------------------------------------------------------
def test_a_step_graph_as_text(folder):
    status, out, _ = command("opt", "late.sir", "-p", STEP, "-q", cwd=folder)
    assert status == 0 and "f32[1, 3, 4@audio(1/2, d=1, n=(T+1)//2)]" in out
    assert command("opt", "late.sir", "-p", STEP, "-q", "-o", "step.sir", cwd=folder)[0] == 0
    assert (folder / "step.sir").read_text() == out
    more = ("-p", "simplify,fold,cse,dce", "--verify-each", "numeric", "-o", "less.sir")
    status, _, err = command("opt", "step.sir", *more, cwd=folder)
    assert status == 0 and "simplify" in err, err
    assert len(load(folder / "less.sir").main) <= len(load(folder / "step.sir").main)


def test_a_step_graph_inspected_and_compared(folder):
    command("opt", "late.sir", "-p", STEP, "-q", "-o", "step.sir", cwd=folder)
    status, out, _ = command("inspect", "step.sir", cwd=folder)
    assert status == 0
    for line in ("input n_valid: i32[1]", "state front.conv.history: f32[1, 3, 4]", "output y.range: i32[1, 2]",
                 "output y: f32[1, 3, 4@audio(1/2, d=1, n=(T+1)//2)]"):  # fmt: skip
        assert f"  {line}\n" in out, out
    status, out, _ = command("diff", "late.sir", "step.sir", cwd=folder)
    assert status == 0 and "history: 0 -> 1\n" in out and "+  state @front.conv.history: f32[1, 3, 4] = 0.0" in out
    assert command("diff", "step.sir", "step.sir", cwd=folder)[1] == ""


def test_dumps_show_delays(folder):
    status, _, err = command("late.sir", "--stream", "80ms", "--dump-ir", "dumps", "-q", "-o", "out", cwd=folder)
    assert status == 0, err
    texts = {p.name: p.read_text() for p in (folder / "dumps").glob("*.sir")}
    assert any("streaming" in name and "d=1" in text for name, text in texts.items()), sorted(texts)


def test_a_step_is_no_model_to_stream(folder):
    command("opt", "late.sir", "-p", STEP, "-q", "-o", "step.sir", cwd=folder)
    status, _, err = command("opt", "step.sir", "-p", STEP, cwd=folder)
    assert status == 4 and "SC215" in err and "its calls are steps already" in err


def test_which_ops_stream(folder):
    status, out, _ = command("ops", cwd=folder)
    assert status == 0
    head, *rows = out.splitlines()[:-1]
    at = head.index("streams")
    shown = {}
    for row in (r for r in rows if r[0] != " "):  # the others go on with the cells above
        shown.setdefault(row[at:].split()[0], set()).add(row[head.index("op ") :].split("(")[0].split()[0])
    assert set(shown) == {"yes", "refused"} and shown["refused"] == {"flip", "read", "write", "history"}
    assert shown["yes"] == set(OPS) - shown["refused"] >= {"conv", "attention", "lstm", "iota"}


def test_an_op_without_a_rule_does_not_stream(monkeypatch):
    assert (standing("conv"), standing("flip"), standing("iota", operands=False)) == ("yes", "refused", "yes")
    monkeypatch.delitem(RULES, "conv")
    assert standing("conv") == "-"


# -- milliseconds ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "hz", "said"),
    [
        ("a multiple of 5120 input frames", 8000, "a multiple of 5120 input frames (640ms)"),
        ("320 input frames, for example 640 input frames", 8000,
         "320 input frames (40ms), for example 640 input frames (80ms)"),
        ("a multiple of 16 ticks of audio", 100, "a multiple of 16 ticks of audio (160ms)"),
        ("a multiple of 3 ticks, or 0", 100, "a multiple of 3 ticks (30ms), or 0"),
        ("a multiple of 3 input frames", 44100, "a multiple of 3 input frames"),
        ("a multiple of 3 input frames", None, "a multiple of 3 input frames"),
        ("16 frames", 100, "16 frames"),
    ],
)  # fmt: skip
def test_counts_of_frames_in_time_as_well(text, hz, said):
    assert in_time(text, hz and Fraction(hz)) == said


def test_hints_in_time(folder):
    status, _, err = command("late.sir", "--stream", "30ms", "-q", "-o", "out", cwd=folder)
    assert status == 4 and "SC200" in err and "a step of 3 input frames" in err, err
    assert "--stream with a multiple of 2 input frames (20ms)" in err
    save(banded(), folder / "net.sir")
    more = ("--attention", "chunk:40ms,left=60ms", "-q", "-o", "out")
    status, _, err = command("net.sir", *more, cwd=folder)
    assert status == 4 and "SC212" in err and "a multiple of 4 ticks of audio (40ms)" in err, err
    save(banded(ahead=1), folder / "net.sir")
    more = ("--conv", "chunk:40ms", "--stream", "60ms", "-q", "-o", "out")
    status, _, err = command("net.sir", *more, cwd=folder)
    assert status == 4 and "SC200" in err and "a multiple of 4 input frames (40ms)" in err, err
    assert "--conv chunk:DUR with a chunk that divides the step" in err


def banded(layers=2, ahead=0):
    """Attention by chunks of 4 frames, over and over; with `ahead`, convolutions that look so far ahead before."""
    b = Net(1)
    b.module.meta["tick_hz"] = 100
    y = b.x
    for _ in range(layers):
        y = b.late(y, ahead) if ahead else y
        heads = [b.heads(b.rows(y)) for _ in range(3)]
        y = b.attention(*heads, b.band(4, 3, 0), scale=0.5)
        y = b.transpose(b.reshape(b.transpose(y, perm=(0, 2, 1, 3)), shape=(1, b.x.type.sizes[2], 6)), perm=(0, 2, 1))
        y = b.conv(y, b.w(3, 6, 1), b.w(3))
    b.graph.output(y, "y")
    return b.module


@pytest.mark.parametrize(("chunk", "told"), [(20, True), (40, False), (80, False), (60, True)])
def test_steps_that_cut_attention_chunks_are_told_of(chunk, told, tmp_path):
    save(banded(), tmp_path / "net.sir")
    artifact = speechc.compile(tmp_path / "net.sir", stream=f"{chunk}ms", output=tmp_path)
    notes = [n for n in artifact.manifest.notes if "multiple of the attention chunk" in n]
    assert len(notes) == told
    assert all("--stream with a multiple of 4 input frames (40ms) waits less" in n for n in notes)
    x = np.random.default_rng(0).standard_normal((1, 3, 27)).astype(np.float32)
    session = artifact.stream()
    streamed = np.concatenate([session.push(x)[0], session.flush()[0]], 2)
    np.testing.assert_allclose(streamed, interpret(load(tmp_path / "net.sir").main, {"x": x})[0], rtol=1e-4, atol=1e-5)

"""Beam search of CTC files: what listeners and `speechc run` tell, whole and chunk by chunk, and what they refuse."""

import json

import command
import numpy as np
import pytest
from speechc.compiler.decode.arpa import open_lm
from speechc.compiler.decode.ctc_beam import CTCBeam
from speechc.compiler.decode.prefix import log_softmax
from speechc.compiler.decode.scores import LogProbabilities
from speechc.compiler.listen import open_listener
from speechc.ir.errors import UsageError
from speechc.lowering.target import target
from speechc.passes.base import Context, make
from stream_net import Net, signals, step_of

TOKENS = ["<blank>", "a", "b", "|"]
LM = "\\data\\\nngram 1=4\n\n\\1-grams:\n-1 <s>\n-9 </s>\n-0.1 b\n-5 <unk>\n\n\\end\\\n"


def built(last="log_softmax", tokens=True):
    """Features x[1, 3, T] to log-probabilities of four classes (probabilities, or scores)."""
    b = Net(1)
    y = b.rows(b.conv(b.late(b.x), b.w(4, 3, 1, scale=4.0), b.w(4)))
    b.graph.output(getattr(b, last)(y, axis=2) if last else y, "scores")
    b.module.meta["tokens"] = TOKENS
    if tokens:
        make("greedy-ctc").run(b.module.main, Context())
    return b.module


def emitted(module, path):
    to = target("onnx")
    for p in to.legalize_for("float32"):
        make(p).run(module.main, Context())
    to.emit(module, path, "float32", {})
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{name: file}, and features `x.npy` in their folder."""
    folder, whole = tmp_path_factory.mktemp("ctc"), built()
    step = step_of(built(), 1)
    step.meta.update(tick_hz=50, streaming={"chunk": 4, "batch": 1, "clock": "audio"} | step.meta.get("streaming", {}))
    np.save(folder / "x.npy", signals([21], 3).astype(np.float32))
    (folder / "lm.arpa").write_text(LM)
    (folder / "words.txt").write_text("# words\nba\n")
    return {
        "whole": emitted(whole, folder / "whole.onnx"),
        "step": emitted(step, folder / "step.onnx"),
        "probabilities": emitted(built("softmax", False), folder / "p.onnx"),
        "unnormalised": emitted(built("", False), folder / "u.onnx"),
        "x": folder / "x.npy",
    }


def features(files):
    return {"x": np.load(files["x"])}


def test_the_file_s_scores_are_searched(files):
    heard = open_listener(files["whole"], beam=50, best=5).hear_arrays(features(files))
    search = CTCBeam(50)
    search.push(heard.outputs["scores"][0])
    assert [a.score for a in heard.alternatives] == pytest.approx([h.score for h in search.best(5)])
    assert heard.text == heard.alternatives[0].text and len(heard.alternatives) == 5
    assert [a.tokens for a in heard.alternatives] == [[TOKENS[t] for t in h.tokens] for h in search.best(5)]
    assert heard.alternatives[0].times is None  # its features a second are not known


@pytest.mark.parametrize("name", ["probabilities", "unnormalised"])
def test_any_kind_of_scores(files, name):
    expected = open_listener(files["whole"], beam=20, best=3).hear_arrays(features(files)).alternatives
    found = open_listener(files[name], beam=20, best=3).hear_arrays(features(files)).alternatives
    # The file's own softmax is float32.
    assert [a.score for a in found] == pytest.approx([a.score for a in expected], abs=1e-4)
    assert [a.text for a in found] == [a.text for a in expected]


def test_chunks_are_the_whole(files):
    fused = {"beam": 6, "best": 4, "lm": files["x"].parent / "lm.arpa", "bias": f"{files['x'].parent}/words.txt=0.5"}
    expected = open_listener(files["whole"], **fused).hear_arrays(features(files))
    listener = open_listener(files["step"], **fused)
    x = features(files)["x"]
    for cuts in ([], [1, 2, 10], range(1, 21)):
        stream = listener.stream_arrays({})
        for piece in np.split(x, cuts, 2):
            stream.push_arrays([piece])
        found = stream.flush()
        assert [a.text for a in found.alternatives] == [a.text for a in expected.alternatives]
        assert [a.score for a in found.alternatives] == pytest.approx(
            [a.score for a in expected.alternatives], abs=1e-4
        )
    assert found.alternatives[0].times[0] % 20 == 0 and len(found.alternatives[0].times) == len(
        found.alternatives[0].tokens
    )


def likely(path, text):
    """The logarithm of what a language model gives a text."""
    model = open_lm(path)
    state, total = model.start(), 0.0
    for word in text.split():
        gained, state = model.next(state, word)
        total += gained
    return total + model.end(state)


def test_what_is_fused_decides(files):
    x, folder = features(files), files["x"].parent
    plain = open_listener(files["whole"], beam=50).hear_arrays(x).text
    assert open_listener(files["whole"]).hear_arrays(x).alternatives is None
    assert "ba" not in plain.split()
    assert "ba" in open_listener(files["whole"], bias=[f"{folder}/words.txt=9"]).hear_arrays(x).text.split()
    only = open_listener(files["whole"], beam=50, lm=folder / "lm.arpa", lm_weight=9.0).hear_arrays(x).text
    assert likely(folder / "lm.arpa", only) > likely(folder / "lm.arpa", plain)
    many = open_listener(files["whole"], beam=50, word_bonus=9.0).hear_arrays(x).text
    assert len(many.split()) > len(plain.split())


def test_run_tells_the_best(files):
    folder = files["x"].parent
    asked = (
        "--beam",
        8,
        "--best",
        2,
        "--lm",
        "lm.arpa",
        "--lm-weight",
        0.1,
        "--word-bonus",
        0.2,
        "--bias",
        "words.txt=2",
    )
    status, out, _ = command.run("run", "whole.onnx", "x.npy", *asked, "--json", cwd=folder)
    (line,) = map(json.loads, out.splitlines())
    assert status == 0 and line["text"] == line["alternatives"][0]["text"] and len(line["alternatives"]) == 2
    status, out, _ = command.run("run", "step.onnx", "x.npy", *asked, "--json", "--stream", cwd=folder)
    lines = [json.loads(text) for text in out.splitlines()]
    assert status == 0 and lines[-1]["text"] == line["text"] and lines[-1]["final"] and len(lines) > 2
    assert lines[-1]["alternatives"][0]["times_ms"] is not None
    for file, *how in (("whole.onnx",), ("step.onnx", "--stream")):
        status, out, _ = command.run("run", file, "x.npy", *asked, *how, cwd=folder)
        *before, text, first, second = out.splitlines()
        assert status == 0 and text.endswith(line["text"]) and not any(told.split()[0] == "1" for told in before)
        for rank, (told, found) in enumerate(zip((first, second), line["alternatives"]), 1):
            assert told.split(maxsplit=2) == [str(rank), f"{found['score']:.3f}", found["text"]]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (("--beam", 0), "SC090"),
        (("--best", 0), "SC090"),
        (("--lm-weight", 2), "SC090"),
        (("--lm", "lm.arpa", "--lm-unit", "letter"), "SC090"),
        (("--lm", "none.arpa"), "SC010"),
        (("--lm", "words.txt"), "SC092"),
        (("--bias", "none.txt"), "SC010"),
        (("--bias", "words.txt=much"), "SC090"),
        (("--bias", "lm.arpa"), "SC093"),
        (("--decode", "beam=many"), "SC090"),
        (("--decode", "word_bonus=[1]"), "SC090"),
        (("--word-bonus", "nan"), "SC090"),
        (("--lm", "lm.arpa", "--lm-weight", "inf"), "SC090"),
        (("--bias", "words.txt=nan"), "SC090"),
        (("--beam", 2, "--decode", "floor=nan"), "SC090"),
        (("--decode", "beam=2.5"), "SC090"),
        (("--decode", "beam=true"), "SC090"),
        (("--decode", "lm=5"), "SC010"),
        (("--decode", "bias=5"), "SC010"),
        (("--beam", 2, "--decode", "beam=3"), "SC015"),
        (("--decode", "threads=3"), "SC053"),
    ],
)
def test_options_that_make_no_sense(files, asked, code):
    status, _, err = command.run("run", "whole.onnx", "x.npy", *asked, cwd=files["x"].parent)
    assert status == 2 and code in err


def test_a_file_without_scores(tmp_path):
    module = built()
    graph = module.main
    graph.outputs, graph.output_names = graph.outputs[1:], graph.output_names[1:]
    path = emitted(module, tmp_path / "tokens.onnx")
    assert open_listener(path).hear_arrays({"x": signals([9], 1).astype(np.float32)}).text is not None
    with pytest.raises(UsageError, match="nothing to search in") as caught:
        open_listener(path, beam=4)
    assert caught.value.code == "SC054"


def test_rows_become_log_probabilities():
    scores = np.random.default_rng(0).standard_normal((5, 4))
    expected = log_softmax(scores)
    for rows in (scores, scores + 3, expected, np.exp(expected)):
        assert np.allclose(LogProbabilities()(rows), expected, rtol=0, atol=1e-12)
    stored = np.round(np.exp(expected) * 256).astype(np.int64) - 128
    found = LogProbabilities((1 / 256, -128))(stored)
    assert np.allclose(np.exp(found), np.exp(expected), atol=2 / 256)  # half a step, and the sum's

"""`--ctc`: files that decode themselves, held to their own log-probabilities, and what reads their tokens."""

import json
from pathlib import Path

import numpy as np
import pytest
import speechc
from command import run as command
from speechc.compiler import driver
from speechc.compiler.audio import read_audio
from speechc.compiler.ctc import Tokens
from speechc.compiler.run_file import run_file
from speechc.compiler.words import Greedy
from speechc.ir.errors import NumericalError, UsageError
from speechc.ir.text import save
from stream_net import Net

DIGITS = Path(speechc.__file__).parent / "examples" / "digits"
BLANK = 1


def network(batch=1, classes=4, outputs=("scores",)):
    """Log-probabilities of x through a convolution that looks a frame ahead, classes last."""
    b = Net(batch)
    y = b.conv(b.late(b.x, 1), b.w(classes, 3, 1, scale=4.0), b.w(classes))
    y = b.log_softmax(b.rows(y), axis=2)
    for name in outputs:
        b.graph.output(y, name)
    return b.module


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    module = network()
    module.meta["tokens"] = ["a", "_", "b", "c"]  # a blank that its name does not tell
    save(module, folder / "net.sir")
    return folder / "net.sir"


def joined(artifact, x):
    """The outputs of a file for the whole of x; a step file gets it in pieces."""
    if artifact.manifest.streaming is None:
        return artifact.run(x)
    session = artifact.stream()
    parts = [session.push(x[:, :, i : i + 5]) for i in range(0, x.shape[2], 5)] + [session.flush()]
    return [np.concatenate(p, 1) for p in zip(*parts, strict=True)]


def text_of(scores, blank):
    """Best-path decoding, the plain way."""
    said, before = [], blank
    for best in scores.argmax(-1).tolist():
        if best not in (blank, before):
            said.append(best)
        before = best
    return said


@pytest.mark.parametrize("stream", [None, "4 frames"])
@pytest.mark.parametrize(
    ("target", "precision"), [("onnx", "float32"), ("onnx", "float16"), ("tflite", "float32"), ("tflite", "int8")]
)
def test_files_decode_themselves(target, precision, stream, model, tmp_path):
    samples = [{"x": np.random.default_rng(i).standard_normal((1, 3, 40)).astype(np.float32)} for i in range(3)]
    more = {"calibration": samples, "min_snr": 10.0} if precision == "int8" else {}
    artifact = speechc.compile(model, target=target, precision=precision, stream=stream, output=tmp_path, ctc=BLANK,
                               **more)  # fmt: skip
    names = [p.name for p in artifact.manifest.outputs if not p.name.endswith(".range")]
    assert names == ["scores", "tokens"]
    scores, tokens = joined(artifact, samples[0]["x"])
    assert tokens.dtype == np.int32 and tokens.shape == scores.shape[:2] == (1, 40)
    said = [t for t in tokens[0].tolist() if t >= 0]
    assert said == text_of(scores[0], BLANK) and len(set(said)) == 3 and -1 in tokens
    np.save(tmp_path / "x.npy", samples[0]["x"])
    (*_, line) = run_file(artifact.path, tmp_path / "x.npy", stream=stream is not None)
    assert line.text == " ".join("a_bc"[t] for t in said)


@pytest.mark.parametrize("stream", [None, "4 frames"])
def test_scores_on_a_grid_may_tie(stream, model, tmp_path):
    samples = [{"x": np.random.default_rng(i).standard_normal((1, 3, 40)).astype(np.float32)} for i in range(3)]
    artifact = speechc.compile(model, precision="int8", calibration=samples, integer_ports=True, min_snr=10.0,
                               stream=stream, ctc=BLANK, output=tmp_path)  # fmt: skip
    assert [p.dtype for p in artifact.manifest.outputs][:2] == ["i8", "i32"]


def test_a_file_for_several_streams(tmp_path):
    save(network(batch=3), tmp_path / "net.sir")
    artifact = speechc.compile(tmp_path / "net.sir", stream="4 frames", ctc=0, output=tmp_path)
    session, x = artifact.stream(), np.random.default_rng(0).standard_normal((3, 3, 17)).astype(np.float32)
    pushed = session.step({i: (x[i : i + 1],) for i in range(3)})
    for i, last in session.flush().items():
        scores, tokens = (np.concatenate(pair, 1) for pair in zip(pushed[i], last, strict=True))
        assert [t for t in tokens[0].tolist() if t >= 0] == text_of(scores[0], 0)


@pytest.mark.parametrize("more", [[], ["--stream", "4 frames"], ["--limit", "0"]])
def test_numeric_verification_and_bisection(more, model, tmp_path):
    for mode in (["--verify-each", "numeric"], ["--bisect"]):
        found, out, err = command(model, "--ctc", BLANK, *mode, *more, "-o", "out", cwd=tmp_path)
        assert found == 0 and (mode != ["--bisect"] or "keeps what it declares" in out), err


@pytest.mark.parametrize(("target", "precision"), [("tflite", "int8"), ("onnx", "float16")])
def test_a_choice_that_flips_is_no_loss(target, precision, model, tmp_path):
    """Lossy passes may turn a frame's class; only the scores measure what they cost."""
    samples = [{"x": np.random.default_rng(i).standard_normal((1, 3, 400)).astype(np.float32)} for i in range(2)]
    settings = driver.Settings(target, precision, samples, tmp_path, ctc=BLANK, min_snr=10.0, verify_each="numeric")
    report = driver.build(driver.read_subject(model), settings)
    lossy = [s.difference for s in report.steps if s.difference and s.difference.error > 1e-4]
    assert lossy and all(d.snr > 20 for d in lossy)


@pytest.mark.parametrize(
    ("outputs", "arguments", "code"),
    [
        (["scores"], ["--ctc", "4"], "SC052"),
        (["scores"], ["--ctc", "-1"], "SC052"),
        (["one", "two"], ["--ctc", "0"], "SC052"),
        (["tokens"], ["--ctc", "0"], "SC052"),
        (["scores"], ["--ctc", "0", "-p", "simplify"], "SC017"),
    ],
)
def test_what_cannot_be_decoded_is_said(outputs, arguments, code, tmp_path):
    save(network(outputs=outputs), tmp_path / "net.sir")
    status, _, err = command("net.sir", *arguments, "-q", "-o", "out", cwd=tmp_path)
    assert status == 2 and f"error[{code}]" in err, err
    assert not (tmp_path / "out").exists()
    assert code != "SC052" or (f"{outputs[0]} (f32[1, T@" in err and "try:" in err), err


def test_the_pass_in_a_plan_of_ones_own(model, tmp_path):
    status, _, err = command(model, "-p", "simplify,greedy-ctc{blank=1}", "-q", "-o", "out", cwd=tmp_path)
    assert status == 0, err
    assert [p.name for p in speechc.load(tmp_path / "out" / "net.onnx").manifest.outputs] == ["scores", "tokens"]


@pytest.mark.parametrize("stream", [None, "4 frames"])
def test_a_file_with_other_tokens_is_found_out(stream, model, tmp_path, monkeypatch):
    from speechc.passes import greedy_ctc

    right = greedy_ctc.greedy
    monkeypatch.setattr(greedy_ctc, "greedy", lambda b, scores, blank: right(b, scores, 0))
    with pytest.raises(NumericalError, match="not the greedy decoding of its own scores") as error:
        speechc.compile(model, stream=stream, ctc=BLANK, output=tmp_path / "out")
    assert error.value.code == "SC506" and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("time", "classes"), [(1, 2), (2, 1)])
def test_the_reference_decoding(time, classes):
    best = [[1, 0, 0, 1, 0, 2, 2, 0], [0, 1, 1, 1, 2, 0, 1, 1]]
    scores = np.eye(3)[best] if time == 1 else np.eye(3)[best].transpose(0, 2, 1)
    expected = [[-1, 0, -1, -1, 0, 2, -1, 0], [0, -1, -1, -1, 2, 0, -1, -1]]
    assert Tokens("scores", time, classes, 1).decoded(scores).tolist() == expected


def test_settings_say_which_output(model):
    subject = driver.read_subject(model)
    (first, *_) = driver.planned(subject, driver.Settings(ctc=BLANK), False)
    assert str(first) == "greedy-ctc{blank=1, output='scores'}"
    with pytest.raises(UsageError):
        driver.planned(subject, driver.Settings(ctc=7), False)


# -- the shipped model -----------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "precision", "stream"),
    [("onnx", "float32", None), ("tflite", "int8", None), ("onnx", "int8", "320ms"), ("tflite", "float32", "320ms")],
)
def test_digits(target, precision, stream, tmp_path):
    more = ["--stream", stream, "--attention", "chunk:640ms,left=2560ms"] if stream else []
    more += ["--int8"] if precision == "int8" else []
    status, out, err = command(DIGITS / "model.pt", "-t", target, "--ctc", "0", "--calibrate", DIGITS / "audio", *more,
                               "--json", "-o", "out", cwd=tmp_path)  # fmt: skip
    assert status == 0, err
    report = json.loads(out)
    assert report["word_errors"]["recordings"] == 6 and max(report["word_errors"]["rates"].values()) <= 0.05
    artifact = speechc.load(
        report["artefact"] if Path(report["artefact"]).is_absolute() else tmp_path / report["artefact"]
    )
    for path in sorted((DIGITS / "audio").glob("*.wav"))[:2]:
        audio = read_audio(path, 8000)[None]
        if stream:
            session = artifact.stream()
            scores, tokens = (np.concatenate(p, 1) for p in zip(session.push(audio), session.flush(), strict=True))
        else:
            scores, tokens = artifact.run(audio)
        said = [t for t in tokens[0].tolist() if t >= 0]
        assert said == text_of(scores[0], 0)
        greedy = Greedy(artifact.manifest.tokens)
        greedy.add(scores)
        (*_, line) = run_file(artifact.path, path, stream=stream is not None)
        assert line.final and line.text == greedy.text != ""

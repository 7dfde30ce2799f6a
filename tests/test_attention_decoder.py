"""Models of an encoder and an attention decoder: compiled to a folder, searched greedily and by beam."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import speechc
import torch
from command import run as command
from models.seq2seq import END, MOST, SAMPLES, TOKENS, Decoder, parts, scorer
from speechc.compiler.assembly.assemble import assemble
from speechc.compiler.assembly.text import text_of
from speechc.compiler.decode.attention import Hypothesis, Steps, run, search
from speechc.ir.errors import CaptureError, UsageError

SAYS = 2  # the seed of a model whose text depends on what it hears


def audio(seed: int) -> np.ndarray:
    return 8 * np.random.default_rng(seed).standard_normal(SAMPLES, dtype=np.float32)


class Modules(Steps):
    """The modules themselves as steps: everything again for every token."""

    def __init__(self, next, rows: int):
        self.call, self.rows = next, rows
        self.said: list[list[int]] = [[] for _ in range(rows)]

    def next(self, tokens):
        self.said = [[*s, t] for s, t in zip(self.said, tokens)]
        return np.stack([self.call(s[1:]).numpy() for s in self.said])

    def reorder(self, rows):
        self.said = [list(self.said[r]) for r in rows]


def beam(steps: Steps, *given, **options) -> list[Hypothesis]:
    """One search in all rows."""
    return run(steps, [search(steps.rows, *given, **options)])[0]


def greedy(next, most: int) -> Hypothesis:
    """The best token at every step."""
    h = Hypothesis([], 0.0)
    while len(h.tokens) < most:
        logs = next(h.tokens).numpy()
        best = int(logs.argmax())
        h.score += float(logs[best])
        if best == END:
            h.ended = True
            break
        h.tokens.append(best)
    return h


def every_text(next, most: int) -> list[Hypothesis]:
    """All texts of at most `most` tokens, ended or cut there, with their probabilities."""
    found, alive = [], [Hypothesis([], 0.0)]
    for _ in range(most):
        longer = []
        for h in alive:
            logs = next(h.tokens).numpy()
            for token, log in enumerate(logs):
                if token == END:
                    found.append(Hypothesis(h.tokens, h.score + log, True))
                else:
                    longer.append(Hypothesis([*h.tokens, token], h.score + log))
        alive = longer
    return [*found, *alive]


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))])
def test_a_wide_beam_finds_the_likeliest_of_all_texts(seed):
    model, most = parts(seed), 4
    next = scorer(model, torch.from_numpy(audio(seed))[None])
    ended = [h for h in every_text(next, most) if h.ended]
    best = max(ended, key=lambda h: h.ranked(0.0))
    (found, *_) = [h for h in beam(Modules(next, 4**most), [0], END, most, penalty=0.0) if h.ended]
    assert found.tokens == best.tokens
    assert found.score == pytest.approx(best.score)
    assert sum(np.exp(h.score) for h in every_text(next, most)) == pytest.approx(1)


def test_a_beam_of_one_is_greedy_and_a_wider_one_is_no_worse():
    better = 0
    for seed in range(12):
        next = scorer(parts(seed), torch.from_numpy(audio(seed))[None])
        alone = greedy(next, 6)
        one = beam(Modules(next, 1), [0], END, 6)[0]
        wide = beam(Modules(next, 6), [0], END, 6, penalty=0.0)[0]
        assert one.tokens == alone.tokens and one.ended == alone.ended
        assert one.score == pytest.approx(alone.score)
        if alone.ended:
            assert wide.score >= alone.score - 1e-9
            better += wide.score > alone.score + 1e-9
    assert better


def test_hypotheses_that_nothing_may_follow_do_not_end_the_search():
    def rules(said, scores):
        return np.full_like(scores, -np.inf) if said in ([0], [2], [4]) else scores

    next = scorer(parts(1), torch.from_numpy(audio(1))[None])
    found = beam(Modules(next, 6), [0], END, 4, rules)
    assert all(h.tokens[:1] == [3] for h in found if h.tokens) and max(len(h.tokens) for h in found) > 1


def test_a_decoder_that_gives_nan(folder):
    listener = folder.listen()
    with pytest.raises(UsageError, match="SC032"):
        listener.hear(np.full(SAMPLES, np.nan, np.float32))
    encoded = listener.encoded
    listener.encoded = lambda samples: {n: a * np.nan for n, a in encoded(samples).items()}
    with pytest.raises(UsageError, match="SC091"):
        listener.hear(np.zeros(SAMPLES, np.float32))


def test_hypotheses_rank_by_length():
    short, long = Hypothesis([2], -2.0, True), Hypothesis([2, 3, 4], -3.0, True)
    assert short.ranked(0) > long.ranked(0)
    assert short.ranked(1) == -1.0
    assert long.ranked(1) == -0.75


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return speechc.compile(parts(SAYS), output=tmp_path_factory.mktemp("folder"))


def test_the_folder_says_what_the_modules_say(folder):
    listener, texts = folder.listen(), set()
    for seed in range(5):
        next = scorer(parts(SAYS), torch.from_numpy(audio(seed))[None])
        wanted = greedy(next, MOST - 1)
        heard = listener.hear(audio(seed))
        assert heard.text == text_of(wanted.tokens, TOKENS)
        assert [n.kind for n in heard.notes] == ([] if wanted.ended else ["unfinished"])
        texts.add(heard.text)
    assert len(texts) > 2


def test_what_the_decoder_makes_of_the_memory_is_computed_once(folder):
    decoder, encoder = folder.parts["decoder"].manifest, folder.parts["encoder"].manifest
    names = ["other.keys", "other.values"]
    assert [p.name for p in encoder.outputs] == names
    assert [p.name for p in decoder.inputs if p.time is None and p.name != "n_valid"] == names
    assert decoder.streaming["max_frames"] == MOST
    keys, values = (p for p in decoder.states if p.name.endswith(("keys", "values")))
    assert keys.shape == values.shape == [1, 2, MOST - 1, 4]


def test_a_step_costs_the_same_at_every_position(folder):
    """Nothing in the step file has a size that depends on how many tokens there were."""
    shapes = [p.shape for p in (*folder.parts["decoder"].manifest.inputs, *folder.parts["decoder"].manifest.states)]
    assert all(isinstance(n, int) for shape in shapes for n in shape)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_a_beam_of_streams_in_the_file(target, tmp_path):
    made = speechc.compile(parts(SAYS), target=target, batch=3, output=tmp_path)
    listener = speechc.load(made.path).listen(penalty=0.0)
    for seed in range(3):
        next = scorer(parts(SAYS), torch.from_numpy(audio(seed))[None])
        wanted = beam(Modules(next, 3), [0], END, MOST - 1, penalty=0.0)[0]
        assert listener.hear(audio(seed)).text == text_of(wanted.tokens, TOKENS)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_several_recordings_at_once(target, tmp_path):
    """Four streams: four recordings greedily, or two by a beam of two; five of them take more than one turn."""
    made = speechc.compile(parts(SAYS), target=target, batch=4, own_inputs=True, output=tmp_path)
    for width in (1, 2):
        listener = made.listen(beam=width, penalty=0.0)
        assert listener.at_once == 4 // width
        wanted = []
        for seed in range(5):
            next = scorer(parts(SAYS), torch.from_numpy(audio(seed))[None])
            wanted.append(text_of(beam(Modules(next, width), [0], END, MOST - 1, penalty=0.0)[0].tokens, TOKENS))
        assert len(set(wanted)) > 2
        assert [h.text for h in listener.hear_many([audio(seed) for seed in range(5)])] == wanted
    assert made.listen().beam == 1
    with pytest.raises(UsageError, match="4 streams for hypotheses, not 5"):
        made.listen(beam=5)


def test_a_recording_longer_than_the_model_takes(folder):
    with pytest.raises(UsageError, match="SC112"):
        folder.listen().hear(np.zeros(SAMPLES + 1, np.float32))


@pytest.mark.parametrize("options", [{"beam": 0}, {"most": 0}, {"most": "all"}, {"penalty": float("nan")}])
def test_options_that_make_no_sense(folder, options):
    with pytest.raises(UsageError, match="SC090"):
        folder.listen(**options)


def test_a_stream_is_refused_without_a_flag_that_would_be_refused(folder):
    with pytest.raises(UsageError, match="SC050") as error:
        folder.listen().stream()
    assert "--stream" not in str(error.value)


def test_options_that_the_family_does_not_have(folder):
    with pytest.raises(UsageError, match="SC053"):
        folder.listen(language="en")


@pytest.mark.slow
def test_parts_that_do_not_fit():
    model = parts()
    model.parts["decoder"].inputs = {"tokens": "i64[1,T]", "memory": "f32[1,11,8]"}
    with pytest.raises(CaptureError, match=r"SC407.*decoder takes memory"):
        assemble(model)
    model = parts()
    model.parts["encoder"].outputs = ("memory", "more")
    with pytest.raises(CaptureError, match=r"SC407.*1 outputs"):
        assemble(model)


@pytest.mark.slow
def test_graphs_that_do_something_else(monkeypatch):
    """A decoder that changes between capture and proof is noticed."""
    model, calls = parts(), []
    original = Decoder.forward

    def changing(self, tokens, memory):
        calls.append(1)
        return original(self, tokens, memory) * (1 if torch.compiler.is_compiling() else 1.001)

    monkeypatch.setattr(Decoder, "forward", changing)
    with pytest.raises(CaptureError, match="SC408"):
        assemble(model)
    assert calls


@pytest.mark.slow
def test_flags_of_single_files_are_refused(tmp_path):
    for more in ({"stream": "1 frames"}, {"ctc": 0}, {"target": "all"}):
        with pytest.raises(UsageError, match="SC058"):
            speechc.compile(parts(), output=tmp_path, **more)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_that_is_no_earlier_result_is_left_alone(tmp_path):
    (tmp_path / "seq2seq").mkdir()
    (tmp_path / "seq2seq" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="SC011"):
        speechc.compile(parts(), output=tmp_path)
    assert (tmp_path / "seq2seq" / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_command_compiles_a_factory_of_parts(tmp_path):
    status, out, err = command("models.seq2seq:parts", "-o", tmp_path, "--json", cwd=Path(__file__).parent)
    assert status == 0, err
    assert json.loads(out)["kind"] == "attention"
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == [
        "bundle.json", "decoder.onnx", "decoder.onnx.json", "encoder.onnx", "encoder.onnx.json",
    ]  # fmt: skip

"""Whisper from a transformers directory beside transformers: what it says, in which language, and when."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import speechc
import torch
from models.small_whisper import BINS, MOST, RATE, TOKENS, WINDOW, number, write
from speechc.compiler.decode.attention import Hypothesis, run, search
from speechc.compiler.decode.whisper import Whisper
from speechc.compiler.listen.attention import FileSteps
from speechc.compiler.listen.reading import Reading

pytest.importorskip("transformers")

END, BEGIN = number("<|endoftext|>"), number("<|0.00|>")
NEVER, FIRST = [3, 5, *range(END + 1, BEGIN)], [0, END]


def audio(seed: int, samples: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(samples)
    return (0.3 * noise * (1 + np.sin(np.arange(samples) / (300 * (seed + 1))))).astype(np.float32)


def tone(hz: int) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(WINDOW) / RATE).astype(np.float32)


def decoding() -> dict:
    names = {"start": "startoftranscript", "end": "endoftext", "transcribe": "transcribe", "translate": "translate",
             "no_timestamps": "notimestamps", "previous": "startofprev"}  # fmt: skip
    special = {name: number(f"<|{token}|>") for name, token in names.items()}
    return {"special": special, "most": MOST, "suppress": NEVER, "suppress_first": FIRST}


def processors(timestamps: bool, prompt: int) -> list:
    """transformers' own rules of what Whisper may say."""
    from transformers.generation import logits_process as rules

    never = NEVER if timestamps else [*NEVER, *range(BEGIN, len(TOKENS))]
    made = [rules.SuppressTokensLogitsProcessor(never, "cpu"),
            rules.SuppressTokensAtBeginLogitsProcessor(FIRST, prompt, "cpu")]  # fmt: skip
    if timestamps:
        config = SimpleNamespace(no_timestamps_token_id=BEGIN - 1, eos_token_id=END, bos_token_id=END,
                                 max_initial_timestamp_index=50, _detect_timestamp_from_logprob=True)  # fmt: skip
        made.append(rules.WhisperTimeStampLogitsProcessor(config, prompt))
    return made


def may_follow(rules: list, prompt: list[int], said: list[int], scores: torch.Tensor) -> torch.Tensor:
    ids, scores = torch.tensor([[*prompt, *said]]), scores[None].clone()
    for rule in rules:
        scores = rule(ids, scores)
    return scores[0]


@pytest.mark.parametrize("timestamps", [False, True])
def test_what_may_be_said_is_what_transformers_lets_be_said(timestamps):
    task = Whisper(decoding(), TOKENS, language="en", timestamps=timestamps)
    rules = processors(timestamps, len(task.prompt))
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        said: list[int] = []
        while len(said) < 12 and (not said or said[-1] != END):
            scores = 3 * random.standard_normal(len(TOKENS)).astype(np.float32)
            scores[BEGIN:] += random.choice([-3, 0, 3])
            ours = task.rules(said, scores)
            theirs = may_follow(rules, task.prompt, said, torch.from_numpy(scores)).numpy()
            np.testing.assert_array_equal(ours, theirs)
            said.append(int(ours.argmax()))
        seen.add(tuple(t >= BEGIN for t in said))
    assert not timestamps or len(seen) > 10


@pytest.fixture(scope="module", params=["onnx", pytest.param("tflite", marks=pytest.mark.slow)])
def small(request, tmp_path_factory):
    """(transformers' module, the compiled folder)."""
    folder = tmp_path_factory.mktemp(request.param)
    module = write(folder / "small")
    return module, speechc.compile(folder / "small", target=request.param, output=folder / "out")


def features(samples: np.ndarray) -> torch.Tensor:
    from transformers import WhisperFeatureExtractor

    made = WhisperFeatureExtractor(feature_size=BINS, chunk_length=WINDOW // RATE)
    return made(samples, sampling_rate=RATE, return_tensors="pt").input_features


def greedy(module, samples: np.ndarray, task: Whisper) -> list[int]:
    """The module without a cache, everything again for every token."""
    said, heard, prompt = [], features(samples), task.prompt
    rules = processors(task.timestamps, len(prompt))
    while len(said) < task.most:
        with torch.no_grad():
            scores = module(heard, decoder_input_ids=torch.tensor([[*prompt, *said]])).logits[0, -1]
        best = int(may_follow(rules, prompt, said, scores).argmax())
        if best == END:
            break
        said.append(best)
    return said


@pytest.mark.slow
@pytest.mark.parametrize("timestamps", [False, True])
def test_it_says_what_transformers_says(small, timestamps):
    module, folder = small
    texts = set()
    for seed in range(3):
        samples = audio(seed, 12000 + 1500 * seed)
        listener = folder.listen(language="en", timestamps=timestamps)
        steps = FileSteps(listener.sessions["decoder"], [listener.encoded(samples)], 1)
        task = listener.task
        ((best,),) = run(steps, [search(1, task.prompt, task.end, task.most, task.rules)])
        assert best.tokens == greedy(module, samples, task)
        texts.add(tuple(best.tokens))
        if not timestamps:
            assert listener.hear(samples).outputs["tokens"][0].tolist() == best.tokens
    assert len(texts) == 3


@pytest.mark.slow
def test_it_finds_the_language_that_transformers_finds(small):
    module, folder = small
    found = set()
    for samples in (audio(0, WINDOW), tone(200), tone(900)):
        listener = folder.listen()
        steps = FileSteps(listener.sessions["decoder"], [listener.encoded(samples)], 1)
        task = listener.task.settled(steps.next(listener.task.probe)[0])
        with torch.no_grad():
            theirs = int(module.detect_language(features(samples))[0])
        assert task.languages[task.language] == theirs
        found.add(task.language)
    assert len(found) > 1


@pytest.mark.slow
def test_several_recordings_each_in_its_language_and_as_long_as_it_is(tmp_path):
    write(tmp_path / "small")
    one = speechc.compile(tmp_path / "small", output=tmp_path / "one").listen(timestamps=True)
    several = speechc.compile(tmp_path / "small", output=tmp_path / "two", batch=2, own_inputs=True).listen(
        timestamps=True
    )
    recordings = [audio(0, 9000), tone(900), audio(1, 40000), audio(2, 23000)]
    for a, b in zip(several.hear_many(recordings), map(one.hear, recordings), strict=True):
        assert a.text == b.text and a.segments == b.segments


def stamp(seconds: float) -> int:
    return BEGIN + round(50 * seconds)


@pytest.mark.parametrize(
    ("said", "words", "then"),
    [
        ([stamp(0), 7, stamp(0.5)], [7], 1.0),  # nothing more in this window
        ([stamp(0), 7, stamp(0.5), stamp(0.5), 8], [7], 0.5),  # 8 goes on behind it
        ([stamp(0), 7, stamp(0.5), stamp(0.6)], [7], 0.6),
        ([stamp(0.2), 7, 8], [7, 8], 1.0),  # no end: all of it
        ([], [], 1.0),
    ],
)
def test_the_next_window_begins_where_the_last_timestamp_ended(said, words, then):
    reading = Reading(np.zeros(3 * WINDOW, np.float32), WINDOW, RATE, Whisper(decoding(), TOKENS, language="en"))
    assert reading.task.timestamps and not reading.done
    reading.take(Hypothesis(said, 0.0, True, [0.0]))
    assert reading.words == words and reading.at == round(then * RATE)
    assert [(s.start, s.tokens) for s in reading.spoken] == ([((said[0] - BEGIN) / 50, words)] if words else [])
    reading.take(Hypothesis([stamp(0.1), 9, stamp(0.3)], 0.0, True, [0.0]))
    assert (reading.spoken[-1].start, reading.spoken[-1].end) == pytest.approx((then + 0.1, then + 0.3))
    reading.take(Hypothesis([stamp(0.2), 7], 0.0, True, [0.0]))
    assert reading.done == (reading.at == 3 * WINDOW) == (then == 1.0)
    if reading.done:
        assert reading.spoken[-1].end == 3.0

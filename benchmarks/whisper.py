"""Whisper base in every form beside transformers' own: texts, word errors, sizes, and seconds a recording.

python benchmarks/whisper.py --model DIR --data LIST.jsonl --audio-root DIR --calibrate DIR [--keep DIR]

`--model` is a directory that `save_pretrained` wrote. Words: every recording of the list, heard greedily in English,
texts normalised as the paper does; "same" is the share of recordings whose text is transformers' to the letter.
All hear the first 30 s of a recording, as transformers' feature extractor does. Seconds: audio in, text out, the same
recordings (`--timed`) in blocks in turn, medians of the blocks' ratios. The last table is what a step of the decoder
costs early and late in a text. `--keep DIR` keeps what is compiled, or takes it from there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import speechc
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from speechc.compiler.api import Folder
from speechc.compiler.audio import read_audio
from speechc.compiler.evaluate.counts import count_words, total
from speechc.compiler.evaluate.normalise import normaliser
from speechc.compiler.listen.attention import AttentionListener, FileSteps
from speechc.compiler.listen.source import BUNDLE
from speechc.compiler.place import size_of
from speechc.lowering import target as targets
from timing import ratio, side_by_side

RATE = 16000  # Hz
WINDOW = 30  # s
MOST, ROUNDS = 440, 3  # tokens; texts of so many
PROGRESS = Console(stderr=True)
FORMS = "onnx float32, onnx int8 calibrated, tflite float32, tflite int8"
PEER = "transformers"


def theirs(folder: Path, prompt: list[int], end: int) -> Callable[[np.ndarray], list[int]]:
    """Greedy decoding by transformers itself, features included: audio to tokens."""
    from transformers import GenerationMixin, WhisperFeatureExtractor, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    features = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    first = [*(model.generation_config.begin_suppress_tokens or ()), end]

    def hear(audio: np.ndarray) -> list[int]:
        heard = features(audio, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.no_grad():
            said = GenerationMixin.generate(
                model, heard, decoder_input_ids=torch.tensor([prompt]), do_sample=False, num_beams=1, eos_token_id=end,
                pad_token_id=end, begin_suppress_tokens=first, max_new_tokens=model.config.max_target_positions - 8,
            )  # fmt: skip
        return [t for t in said[0].tolist()[len(prompt) :] if t < end]

    return hear


def compiled(form: str, given: argparse.Namespace, folder: Path) -> Folder:
    """One form of the model, compiled where it is not there yet."""
    target, precision, *calibrated = form.split()
    place = folder / form.replace(" ", "-") / given.model.name
    if (place / BUNDLE).is_file():
        return speechc.load(place)
    calibration = given.calibrate if calibrated else None
    return speechc.compile(given.model, target=target, precision=precision, calibration=calibration,
                           output=place.parent)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--model", "--data", "--audio-root", "--calibrate"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--forms", default=FORMS)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--timed", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    targets.ALONE = True  # LiteRT in this process, not behind a pipe
    entries = [json.loads(line) for line in given.data.read_text().splitlines()][: given.limit]
    audio = [read_audio(given.audio_root / e["audio"], RATE)[: WINDOW * RATE] for e in entries]
    with tempfile.TemporaryDirectory() as folder:
        made = {f.strip(): compiled(f.strip(), given, Path(given.keep or folder)) for f in given.forms.split(",")}
        listeners = {form: m.listen(given.threads, language="en") for form, m in made.items()}
        any_one = next(iter(listeners.values()))
        peer = theirs(given.model, any_one.task.prompt, any_one.task.end)
        from speechc.compiler.assembly.text import text_of

        spoken = lambda tokens: text_of(tokens, any_one.tokens, any_one.about["spelling"])
        says = {PEER: lambda a: spoken(peer(a))}
        says |= {form: lambda a, listener=listener: listener.hear(a).text for form, listener in listeners.items()}
        texts = {name: [say(a) for a in track(audio, name, console=PROGRESS)] for name, say in says.items()}
        hears = {PEER: peer} | {form: listener.hear for form, listener in listeners.items()}
        timed = audio[:: max(1, len(audio) // given.timed)][: given.timed]
        every = {name: lambda hear=hear: [hear(a) for a in timed] for name, hear in hears.items()}
        times = side_by_side(every, blocks=5, block=1)
        sizes = {form: size_of(p for f in m.source.files.values() for p in f.parent.glob(f"{f.name}*"))
                 for form, m in made.items()}  # fmt: skip
        show(entries, texts, times, sizes, len(timed))
        positions(listeners, audio[0])


def show(
    entries, texts: dict[str, list[str]], times: dict[str, list[float]], sizes: dict[str, int], timed: int
) -> None:
    """One table."""
    plain = normaliser("whisper")
    table = Table("form", "same text", "word errors", "size", "s a recording", f"times as fast as {PEER}")
    for name, heard in texts.items():
        same = np.mean([a == b for a, b in zip(heard, texts[PEER])])
        errors = total([count_words(plain(e["text"]), plain(h)) for e, h in zip(entries, heard)])
        size = f"{sizes[name] / 1e6:.1f} MB" if name in sizes else "-"
        seconds = f"{np.median(times[name]) / timed:.2f}"
        table.add_row(name, f"{same:.1%}", f"{errors.rate:.2%}", size, seconds, f"{ratio(times, PEER, name):.2f}")
    Console(width=120).print(f"{len(entries)} recordings, {timed} timed", table)


def positions(listeners: dict[str, AttentionListener], audio: np.ndarray) -> None:
    """What a step of the decoder costs at the beginning and at the end of its positions."""
    table = Table("form", "ms a step, first 50", f"ms a step, last 50 of {MOST}", "ratio")
    for form, listener in listeners.items():
        steps, times = FileSteps(listener.sessions["decoder"], [listener.encoded(audio)], listener.beam), []
        for _ in range(ROUNDS):
            steps.batch.reset()
            times.append([])
            for _ in range(MOST):
                start = time.perf_counter()
                steps.next([0] * steps.rows)
                times[-1].append(1e3 * (time.perf_counter() - start))
        ends = [(np.median(t[:50]), np.median(t[-50:])) for t in times]
        first, last = np.median(ends, 0)
        table.add_row(form, f"{first:.2f}", f"{last:.2f}", f"{np.median([b / a for a, b in ends]):.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

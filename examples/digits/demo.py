"""Compile the digit recogniser to ONNX and int8 TFLite, transcribe the shipped recordings with all three, compare.

python examples/digits/demo.py [--out out/digits]
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np
import speechc
from rich.console import Console
from rich.table import Table
from speechc.compiler.audio import read_audio
from speechc.compiler.driver import read_subject
from speechc.compiler.show import size_text

HERE = Path(__file__).parent
RATE = 8000


def recordings() -> list[tuple[np.ndarray, str]]:
    """The shipped recordings, float32 [1, samples] at 8 kHz, with their texts."""
    lines = [json.loads(line) for line in (HERE / "audio" / "texts.jsonl").read_text().splitlines()]
    return [(read_audio(HERE / "audio" / line["audio"], RATE)[None], line["text"]) for line in lines]


def transcribe(log_probs: np.ndarray) -> str:
    """Greedy CTC: log-probabilities [1, frames, 11] to digits; repeats merged, blanks (token 0) dropped."""
    best = log_probs[0].argmax(-1)
    kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return " ".join(str(token - 1) for token in kept if token)


def measure(run: Callable[[np.ndarray], np.ndarray], audio: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """Outputs, and the best of five rounds in milliseconds per second of audio."""
    outputs = [run(a) for a in audio]
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for a in audio:
            run(a)
        rounds.append(time.perf_counter() - start)
    return outputs, 1000 * min(rounds) / (sum(a.shape[1] for a in audio) / RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/digits"))
    folder = parser.parse_args().out
    model = HERE / "model.pt"
    clips = recordings()
    audio, texts = [a for a, _ in clips], [t for _, t in clips]

    console = Console()
    console.print(f"compiling {model.name} to ONNX, and to TFLite with 8-bit integers (calibrated on the recordings)")
    onnx = speechc.compile(model, output=folder, name="digits")
    tflite = speechc.compile(
        model, target="tflite", precision="int8", calibration=[(a,) for a in audio], output=folder, name="digits-int8"
    )
    subject = read_subject(model)
    candidates: dict[Path, Callable[[np.ndarray], np.ndarray]] = {
        model: lambda a: subject.reference({"audio": a})[0],
        onnx.path: lambda a: onnx.run(a)[0],
        tflite.path: lambda a: tflite.run(a)[0],
    }
    table = Table("file", "size", "word errors", "largest difference", "ms per s of audio", box=None)
    reference: list[np.ndarray] = []
    for path, run in candidates.items():
        outputs, cost = measure(run, audio)
        reference = reference or outputs
        difference = max(float(np.abs(o - r).max()) for o, r in zip(outputs, reference))
        counted = jiwer.process_words(texts, [transcribe(o) for o in outputs])
        wrong = counted.substitutions + counted.deletions + counted.insertions
        words = sum(len(t.split()) for t in texts)
        shown = "-" if path == model else f"{difference:.1e}"
        table.add_row(path.name, size_text(path.stat().st_size), f"{wrong} of {words}", shown, f"{cost:.2f}")
    console.print(table)
    console.print("differences are between log-probabilities; times are of whole utterances, best of five rounds")


if __name__ == "__main__":
    main()

"""The digit recogniser streamed: word errors whole, chunk-masked whole and chunk by chunk, and what a chunk costs.

python benchmarks/digits_stream.py [--data FOLDER_OF_RECORDINGS]

Chunk-masked whole is PyTorch's own `forward(audio, chunk=16, left=64)`; streamed is the step file, 640 ms at a time.
Without --data the words are counted on the shipped recordings alone.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import speechc
import torch
from digits import MODEL, ROOT, material, words
from rich.console import Console
from rich.table import Table

CHUNK, LEFT = 16, 64  # frames of 40 ms
FORMS = [("onnx", "float32"), ("onnx", "int8"), ("tflite", "float32"), ("tflite", "int8")]


def torch_model() -> torch.nn.Module:
    """The model class with the weights of the archive that ships."""
    from model import Digits

    program = torch.export.load(MODEL)
    model = Digits()
    model.load_state_dict(program.state_dict)
    return model.eval()


def streamed(session, audio: np.ndarray) -> np.ndarray:
    """Log-probabilities, pushed in pieces that do not fit the chunk."""
    session.reset()
    parts = [session.push(audio[:, at : at + 1777])[0] for at in range(0, audio.shape[1], 1777)]
    return np.concatenate([*parts, session.flush()[0]], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the Free Spoken Digit Dataset")
    options = parser.parse_args()
    from demo import transcribe

    sets, calibration = material(options.data)
    model = torch_model()
    with torch.no_grad():
        run = lambda audio, *chunk: model(torch.from_numpy(audio), *chunk).numpy()
        heard = {
            "whole (PyTorch)": {n: [transcribe(run(a)) for a in audio] for n, (audio, _) in sets.items()},
            "chunk-masked whole (PyTorch)": {
                n: [transcribe(run(a, CHUNK, LEFT)) for a in audio] for n, (audio, _) in sets.items()
            },
        }
    with tempfile.TemporaryDirectory() as folder:
        for target, precision in FORMS:
            artifact = speechc.compile(
                MODEL,
                target=target,
                precision=precision,
                calibration=calibration if precision == "int8" else None,
                stream="640ms",
                attention="chunk:640ms,left=2560ms",
                conv="chunk",
                output=Path(folder),
                name=f"{target}-{precision}",
            )
            session = artifact.stream()
            heard[f"streamed ({target} {precision})"] = {
                n: [transcribe(streamed(session, a)) for a in audio] for n, (audio, _) in sets.items()
            }
    table = Table("form", *(f"WER {n}" for n in sets), "transcripts as chunk-masked")
    masked = heard["chunk-masked whole (PyTorch)"]
    for name, found in heard.items():
        same = [a == b for n in sets for a, b in zip(found[n], masked[n])]
        table.add_row(name, *(words(sets[n][1], found[n]) for n in sets), f"{sum(same)} of {len(same)}")
    Console(width=140).print(table)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "examples" / "digits"))
    main()

"""Print the word error rate of model.pt's weights, whole and in 640 ms chunks, on real and synthesised test strings.

python evaluate.py --data ../shared/data/digits --voices build/voices.npz
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import jiwer
import numpy as np
import soundfile
import torch
from data import TEST_TAKES, read_clips, read_takes, test_set
from model import Digits, decode

CHUNK, LEFT = 16, 64  # frames of 40 ms: 640 ms chunks, 2560 ms of left context
SETS = {"quiet": (20.0, 40.0), "noisy": (5.0, 15.0)}  # signal to noise ratio, dB


class Errors(NamedTuple):
    """Word errors against references of `words` words."""

    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Word error rate."""
        return (self.substitutions + self.deletions + self.insertions) / max(1, self.words)


@torch.inference_mode()
def errors(
    model: Digits,
    utterances: list[tuple[np.ndarray, list[int]]],
    chunk: int = 0,
    left: int = -1,
    device: torch.device | str = "cpu",
) -> Errors:
    """Errors of greedy decoding, one utterance (audio [T] at 8 kHz, digits) at a time; chunk and left in frames."""
    model.eval()
    heard = [decode(model(torch.from_numpy(audio)[None].to(device), chunk, left)[0]) for audio, _ in utterances]
    texts = [[" ".join(map(str, digits)) for digits in side] for side in ([d for _, d in utterances], heard)]
    found = jiwer.process_words(*texts)
    words = found.hits + found.substitutions + found.deletions
    return Errors(words, found.substitutions, found.deletions, found.insertions)


def load(path: Path) -> Digits:
    """The network with the weights of an exported archive."""
    model = Digits()
    with path.open("rb") as file:
        model.load_state_dict(torch.export.load(file).state_dict)
    return model.eval()


def shipped(folder: Path) -> list[tuple[np.ndarray, list[int]]]:
    """The recordings listed in `folder`/texts.jsonl."""
    lines = [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]
    return [
        (soundfile.read(folder / line["audio"], dtype="float32")[0], [int(digit) for digit in line["text"].split()])
        for line in lines
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("model.pt"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--voices", type=Path, help="file written by synthesise.py")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load(options.model)
    sources = {"real": read_takes(options.data, TEST_TAKES)}
    if options.voices:
        sources["synthesised"] = read_clips(options.voices, test=True)
    sets = {
        f"{source}, {name}": test_set(clips, snr, options.seed)
        for source, clips in sources.items()
        for name, snr in SETS.items()
    }
    sets["audio/"] = shipped(Path(__file__).with_name("audio"))
    print(f"{'test set':<20} {'mode':<14} {'words':>5} {'sub':>4} {'del':>4} {'ins':>4} {'WER':>7}")
    for name, utterances in sets.items():
        for mode, chunk, left in (("whole", 0, -1), ("640 ms chunks", CHUNK, LEFT)):
            e = errors(model, utterances, chunk, left)
            counts = f"{e.words:>5} {e.substitutions:>4} {e.deletions:>4} {e.insertions:>4} {e.rate:>7.2%}"
            print(f"{name:<20} {mode:<14} {counts}", flush=True)


if __name__ == "__main__":
    main()

"""What a CTC beam search costs: milliseconds a frame by tokens, alone, with a word model, and with words to listen for.

python benchmarks/decoding.py [--frames 200] [--beam 8]

Frames are noise about a random text, a third of them sure of their class, one thread; medians of five searches.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from speechc.compiler.decode.ctc_beam import CTCBeam
from speechc.compiler.decode.options import Decoding
from speechc.compiler.decode.vocabulary import Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIZES = (32, 500, 5000)  # tokens, the blank included


def tokens(size: int) -> list[str]:
    """A blank, a space, and syllables of one letter or more."""
    lengths = (map("".join, itertools.product(LETTERS, repeat=n)) for n in itertools.count(1))
    return ["<blank>", "|", *itertools.islice(itertools.chain.from_iterable(lengths), size - 2)]


def frames(count: int, classes: int) -> np.ndarray:
    """Log-probabilities [count, classes]."""
    random = np.random.default_rng(0)
    scores = random.standard_normal((count, classes))
    sure = random.random(count) < 1 / 3
    scores[np.arange(count), random.integers(0, classes, count)] += np.where(sure, 20.0, np.log(classes) + 2)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def write_model(path: Path) -> None:
    """A word bigram in ARPA form over all words of two letters."""
    words = ["".join(pair) for pair in itertools.product(LETTERS, repeat=2)]
    ones = [f"-3\t{w}\t-0.3" for w in ("<unk>", "<s>", "</s>", *words)]
    twos = [f"-1\t{a} {b}" for a, b in itertools.pairwise(words)]
    counts = ["\\data\\", f"ngram 1={len(ones)}", f"ngram 2={len(twos)}"]
    path.write_text("\n".join([*counts, "", "\\1-grams:", *ones, "", "\\2-grams:", *twos, "", "\\end\\", ""]))


def main() -> None:
    """Print a line for every number of tokens and every kind of search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--beam", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, names = Path(folder) / "words.arpa", Path(folder) / "names.txt"
        write_model(model)
        names.write_text("\n".join(("anna", "bernd", "carla", "dieter")))
        kinds = {
            "alone": Decoding(),
            "word model": Decoding(lm=model),
            "word model, floor=10": Decoding(lm=model, floor=10.0),
            "words to listen for": Decoding(bias=str(names)),
        }
        for size, (name, decoding) in itertools.product(SIZES, kinds.items()):
            rows, vocabulary, seconds = frames(options.frames, size), Vocabulary(tokens(size), 0), []
            for _ in range(5):
                search = CTCBeam(options.beam, 0, decoding.scorers(vocabulary), decoding.floor)
                start = time.perf_counter()
                search.push(rows)
                seconds.append(time.perf_counter() - start)
            each = 1000 * statistics.median(seconds) / options.frames
            print(f"{size:5} tokens, {name}: {each:.2f} ms a frame", flush=True)


if __name__ == "__main__":
    main()

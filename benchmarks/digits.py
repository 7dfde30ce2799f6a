"""The digit recogniser in every form: size, word error rate on real test takes, speed; side by side in one run.

python benchmarks/digits.py [--data FOLDER_OF_RECORDINGS]

Without --data the words are counted on the shipped recordings alone. Sizes are given with and without the constants of
the front end (the DFT matrix and the filterbank), which stay float.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import jiwer
import numpy as np
import speechc
from rich.console import Console
from rich.table import Table
from timing import ratio, side_by_side

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples" / "digits"))
MODEL = ROOT / "examples" / "digits" / "model.pt"
FORMS = [
    ("onnx", "float32", False),
    ("onnx", "int8", False),
    ("onnx", "int8", True),
    ("tflite", "float32", False),
    ("tflite", "int8", False),
    ("tflite", "int8", True),
]


def front_end_bytes() -> int:
    """Bytes of the weights that the front end reads, after the passes that every target shares."""
    from speechc.compiler import driver
    from speechc.passes.base import Context

    subject = driver.read_subject(MODEL)
    settings = driver.Settings()
    driver.transform(subject, settings, Context(), driver.planned(subject, settings, False), lambda what: None)
    graph = subject.module.main
    names = {
        v.name: v.array.nbytes
        for op in graph.ops
        if op.loc.path.startswith("features")
        for v in op.operands
        if v is not None and v.kind == "weight"
    }
    return sum(names.values())


def words(texts: list[str], heard: list[str]) -> str:
    """Word error rate, with the count of errors."""
    found = jiwer.process_words(texts, heard)
    wrong = found.substitutions + found.deletions + found.insertions
    return f"{100 * found.wer:.2f} % ({wrong} of {found.hits + found.substitutions + found.deletions})"


def material(data: Path | None) -> tuple[dict[str, tuple[list[np.ndarray], list[str]]], list[tuple[np.ndarray]]]:
    """Audio and texts by set, and samples to calibrate with: the shipped clips, and test takes of `data`."""
    from demo import recordings

    clips = recordings()
    sets = {"shipped": ([a for a, _ in clips], [t for _, t in clips])}
    calibration = [(a,) for a, _ in clips]
    if data:
        from data import DEV_TAKES, TEST_TAKES, read_takes, test_set

        for name, snr in {"quiet": (20.0, 40.0), "noisy": (5.0, 15.0)}.items():
            strings = test_set(read_takes(data, TEST_TAKES), snr, seed=0)
            sets[name] = ([a[None] for a, _ in strings], [" ".join(map(str, d)) for _, d in strings])
        held = test_set(read_takes(data, DEV_TAKES), (10, 40), seed=1, strings=24)
        calibration += [(a[None],) for a, _ in held]
    return sets, calibration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    from demo import transcribe

    sets, calibration = material(options.data)
    audio = max(sets["shipped"][0], key=lambda a: a.shape[1])
    seconds = audio.shape[1] / 8000
    front = front_end_bytes()
    rows, runs = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for target, precision, static in FORMS:
            name = f"{target} {precision}" + (" calibrated" if static else "")
            artifact = speechc.compile(
                MODEL,
                target=target,
                precision=precision,
                calibration=calibration if static else None,
                output=Path(folder) / name.replace(" ", "-"),
            )
            session = artifact.session
            heard = {s: [transcribe(session.run(a)[0]) for a in arrays] for s, (arrays, _) in sets.items()}
            rows[name] = (artifact, heard)
            runs[name] = lambda session=session: session.run(audio)
        times = side_by_side(runs)
        table = Table(
            "form", "bytes", "of float", "without front end", "SNR, dB", *sets, "ms per s", "speed-up", box=None
        )
        for target, precision, static in FORMS:
            name = f"{target} {precision}" + (" calibrated" if static else "")
            artifact, heard = rows[name]
            base = rows[f"{target} float32"][0].path.stat().st_size
            size = artifact.path.stat().st_size
            snr = artifact.report["snr"]
            table.add_row(
                name,
                f"{size:,}",
                f"{size / base:.3f}",
                f"{(size - front) / (base - front):.3f}",
                "-" if snr is None else f"{snr:.1f}",
                *(words(sets[s][1], heard[s]) for s in sets),
                f"{1000 * statistics.median(times[name]) / seconds:.2f}",
                f"{ratio(times, f'{target} float32', name):.2f}",
            )
    Console(width=200).print(table)
    print(
        f"front end: {front:,} bytes of constants; {np.round(seconds, 1)} s of audio timed, {options.threads} threads"
    )


if __name__ == "__main__":
    main()

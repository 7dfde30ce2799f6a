"""Silero VAD compiled from its TorchScript beside its authors' own ONNX files, chunk by chunk of 512 samples at 16 kHz.

pip install --no-deps silero-vad; python benchmarks/silero.py [--seconds N]

All are called as their authors' wrapper calls theirs: one session of onnxruntime with one thread, state and context
carried by the caller. Blocks of a recording in turn, medians of calls, ratios block by block. The TFLite file of the
same model runs in LiteRT, through the session of this package.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import speechc
from rich.console import Console
from rich.table import Table
from timing import ratio, side_by_side

RATE, CHUNK, CONTEXT = 16000, 512, 64
THEIRS = ("silero_vad.onnx", "silero_vad_16k_op15.onnx")
AUDIO = Path(__file__).parent.parent / "examples" / "digits" / "audio"
BASE = THEIRS[0]


def recording(seconds: float) -> np.ndarray:
    """Digits of the example with pauses between, brought to 16 kHz, in a little noise: f32[chunks, 1, 512]."""
    from speechc.compiler.audio import read_audio

    parts = [np.pad(read_audio(path, RATE), (0, RATE // 2)) for path in sorted(AUDIO.glob("*.wav"))]
    audio = np.resize(np.concatenate(parts), int(seconds * RATE) // CHUNK * CHUNK)
    audio = audio + 1e-3 * np.random.default_rng(0).standard_normal(len(audio))
    return audio.astype(np.float32).reshape(-1, 1, CHUNK)


def session(path: Path) -> onnxruntime.InferenceSession:
    """As the authors' wrapper opens theirs."""
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def theirs(path: Path, chunks: np.ndarray) -> Callable[[], list[float]]:
    """Probabilities of all chunks, from one of the authors' files."""
    run, rate = session(path).run, np.array(RATE, np.int64)

    def calls() -> list[float]:
        state, context, out = np.zeros((2, 1, 128), np.float32), np.zeros((1, CONTEXT), np.float32), []
        for chunk in chunks:
            x = np.concatenate([context, chunk], 1)
            p, state = run(None, {"input": x, "state": state, "sr": rate})
            context = x[:, -CONTEXT:]
            out.append(float(p[0, 0]))
        return out

    return calls


def ours(path: Path, chunks: np.ndarray) -> Callable[[], list[float]]:
    """Probabilities of all chunks, from a compiled ONNX file."""
    opened = session(path)
    names = [i.name for i in opened.get_inputs()][1:]
    start = {i.name: np.zeros(i.shape, np.float32) for i in opened.get_inputs()[1:]}

    def calls() -> list[float]:
        states, out = start, []
        for chunk in chunks:
            p, *now = opened.run(None, {"x": chunk, **states})
            states = dict(zip(names, now))
            out.append(float(p[0, 0]))
        return out

    return calls


def litert(path: Path, chunks: np.ndarray) -> Callable[[], list[float]]:
    """Probabilities of all chunks, from a compiled TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    manifest = speechc.load(path).manifest
    run = Interpreter(str(path), num_threads=1).get_signature_runner()
    pairs = [(s.file_name, s.output) for s in manifest.states]
    start = {s.file_name: np.zeros([int(n) for n in s.shape], np.float32) for s in manifest.states}
    audio, out_name = manifest.inputs[0].file_name, manifest.outputs[0].file_name

    def calls() -> list[float]:
        states, out = start, []
        for chunk in chunks:
            found = run(**{audio: chunk}, **states)
            states = {name: found[after] for name, after in pairs}
            out.append(float(found[out_name].reshape(-1)[0]))
        return out

    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of audio in a block")
    parser.add_argument("--blocks", type=int, default=9)
    options = parser.parse_args()
    if (found := find_spec("silero_vad")) is None:
        sys.exit("Silero VAD is not installed: pip install --no-deps silero-vad")
    data, chunks = Path(found.origin).parent / "data", recording(options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for target in ("onnx", "tflite"):
            path = Path(folder) / f"vad.{target}"
            inputs = [f"x=f32[1,{CHUNK}]", f"sr={RATE}"]
            speechc.compile(data / "silero_vad.jit", inputs, target=target, sample_rate=RATE, output=path)
            made[f"speechc {target}"] = path
        files = {name: data / name for name in THEIRS} | made
        runs = {name: theirs(data / name, chunks) for name in THEIRS}
        runs |= {name: (ours if "onnx" in name else litert)(path, chunks) for name, path in made.items()}
        wanted = np.array(runs[BASE]())
        table = Table("file", "bytes", "largest difference", "us a chunk", "of real time", f"as fast as {BASE}")
        errors = {name: np.abs(np.array(run()) - wanted).max() for name, run in runs.items()}
        times = side_by_side(runs, options.blocks, 3)
        for name, path in files.items():
            each = float(np.median(times[name])) / len(chunks)
            table.add_row(
                name,
                f"{path.stat().st_size:,}",
                f"{errors[name]:.1e}",
                f"{1e6 * each:.0f}",
                f"{each * RATE / CHUNK:.4f}",
                f"{ratio(times, BASE, name):.2f}",
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()

"""What a streaming step costs at least: a stack of matrix products, a few frames a step, against all frames at once.

The weights are read again for every step, whatever it computes: `speechc fit` takes its utilisation from here.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from speechc import compile
from speechc.compiler.bench.measure import Settings, measure
from torch import nn

FRAMES, WIDTH, LAYERS = 240, 1024, 16  # 33.6 million weights


def stack() -> nn.Module:
    """Feed-forward layers, one after the other."""
    pairs = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(LAYERS)]
    return nn.Sequential(*pairs).eval()


def main() -> None:
    """Print how many times as long steps take, by precision and frames a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 32], help="a step")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    model, sample = stack(), np.random.default_rng(0).standard_normal((1, FRAMES, WIDTH)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "int8"):
            make = lambda name, precision=precision, **more: compile(
                model, [sample], 1, "onnx", precision, [sample], Path(folder) / f"{precision}-{name}.onnx",
                frame_shift="10ms", **more,
            ).path  # fmt: skip
            paths = [make("whole"), *(make(f"{n}", stream=f"{n} frames") for n in arguments.frames)]
            settings = Settings(seconds=FRAMES / 100, frame_shift="1/100", threads=[arguments.threads], batches=[],
                                blocks=7, runs=3, most=20)  # fmt: skip
            for n, found in zip(arguments.frames, measure(paths, settings)[1:]):
                ratio = found.timed[0].ratio
                print(f"{precision}, {n} frames a step: {1 / ratio.median:.2f} times as long as whole "
                      f"({1 / ratio.high:.2f} to {1 / ratio.low:.2f})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

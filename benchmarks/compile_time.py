"""Seconds and memory to compile the 12- and 24-layer Conformer-CTC, each in a process of its own.

python benchmarks/compile_time.py

Peak memory is counted above what the process holds once everything is imported and the model is not yet built, as a
multiple of the weights: the model itself is one of them.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]


def one(layers: int, target: str) -> dict:
    """Compile once, here; seconds, seconds of writing alone, and peak memory over the weights."""
    sys.path.insert(0, str(ROOT / "tests"))
    import torch
    from models.conformer import ConformerCTC
    from speechc.compiler import driver
    from speechc.lowering.target import target as find_target

    with tempfile.TemporaryDirectory() as folder:
        warm = torch.nn.Linear(4, 4).eval()  # whatever is imported on first use is imported now
        settings = driver.Settings(target=target, output=Path(folder), name="warm")
        driver.build(driver.read_subject(warm, {"input": torch.randn(1, 9, 4)}), settings)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        torch.manual_seed(0)
        model = ConformerCTC(layers=layers).eval()
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        inputs = {"features": torch.randn(1, 1000, 80)}
        start = time.perf_counter()
        subject = driver.read_subject(model, inputs)
        report = driver.build(subject, driver.Settings(target=target, output=Path(folder), name="model"))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        start = time.perf_counter()
        find_target(target).emit(subject.module, Path(folder) / f"again{report.artefact.suffix}", "float32", {})
        writing = time.perf_counter() - start
    return {"layers": layers, "target": target, "seconds": seconds, "writing": writing, "memory": peak * 1024 / weights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("LAYERS", "TARGET"))
    given = parser.parse_args().one
    if given:
        print(json.dumps(one(int(given[0]), given[1])))
        return
    table = Table("target", "layers", "seconds", "writing, s", "peak memory / weights", "24 against 12", box=None)
    for target in ("onnx", "tflite"):
        first = None
        for layers in (12, 24):
            command = [sys.executable, __file__, "--one", str(layers), target]
            done = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            first = first or done["seconds"]
            ratio = f"{done['seconds'] / first:.2f}" if layers == 24 else "-"
            row = [f"{done['seconds']:.1f}", f"{done['writing']:.2f}", f"{done['memory']:.1f}", ratio]
            table.add_row(target, str(layers), *row)
    Console().print(table)


if __name__ == "__main__":
    main()

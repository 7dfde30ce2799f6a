"""The process that runs one file and nothing else: JSON commands on standard input, answers on standard output."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import SpeechcError
from ...lowering import target as targets
from ..listen.source import Source, read_source
from .memory import peak_bytes

# What a target's runtime is imported as: its import is timed apart from the loading of the file.
RUNTIMES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert.interpreter"}


class Worker:
    """One loaded file."""

    def __init__(self):
        self.source: Source | None = None
        self.threads: int | None = None

    def open(
        self, path: str, threads: int | None, seconds: float, audio: str | None, shift: str | None
    ) -> dict[str, Any]:
        """Load a file and run it once; seconds and peak memory on the way."""
        from ..recordings import WARNINGS, read_recording
        from .runs import open_runs

        self.source, self.threads = read_source(Path(path)), threads
        rates = [m.sample_rate for m in self.source.manifests.values()]
        rate = self.source.about.get("sample_rate") or next(iter(rates), None)
        given = None if audio is None else read_recording(Path(audio), rate)
        samples = None if given is None else given.samples
        told = [] if given is None else [f"{audio}: {n.kind}: {n.text}" for n in given.notes if n.kind in WARNINGS]
        start = time.perf_counter()
        for target in dict.fromkeys(m.target for m in self.source.manifests.values()):
            if target in RUNTIMES:
                try:
                    importlib.import_module(RUNTIMES[target])
                except ImportError:
                    break  # opening the file says what is missing
        imported, base = time.perf_counter(), peak_bytes()
        self.runs = open_runs(self.source, threads, seconds, samples, None if shift is None else Fraction(shift))
        loaded, held = time.perf_counter(), peak_bytes()
        taken = self.runs.run()
        session = getattr(self.runs, "session", None) or getattr(getattr(self.runs, "streams", None), "session", None)
        return {
            "import_seconds": imported - start,
            "load_seconds": loaded - imported,
            "first_seconds": sum(taken),
            "base_bytes": base,
            "loaded_bytes": held,
            "peak_bytes": peak_bytes(),
            "seconds": self.runs.seconds,
            "chunk": self.runs.chunk,
            "unit": self.runs.unit,
            "runner": session.runner if session is not None else "",
            "notes": [*self.runs.notes, *told],
        }

    def block(self, runs: int) -> list[list[float]]:
        """Seconds of the parts of several runs, behind one that only warms the caches."""
        self.runs.run()
        return [self.runs.run() for _ in range(runs)]

    def check(self) -> list[str]:
        """Outputs with NaN in one run more, which is not timed."""
        not_numbers = lambda a: a.dtype.kind == "f" and np.isnan(a).any()
        return sorted({n for given in self.runs.outputs() for n, a in given.items() if not_numbers(a)})

    def batch(self, n: int) -> str | None:
        """Take `n` at once from now on; why not, or None."""
        return self.runs.batch(n)

    def profile(self, calls: int) -> list[dict[str, Any]]:
        """Seconds of every operator over `calls` calls, behind one that warms up."""
        feeds = list(self.runs.calls())
        several = [feeds[k % len(feeds)] for k in range(calls + 1)]
        found = targets.target(self.source.manifest.target).profile(self.source.path, several, self.threads)
        return [{"path": o.path, "kind": o.kind, "name": o.name, "seconds": o.seconds} for o in found]


def main() -> None:
    """Serve commands {"do": name, …} until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the runtime prints must not mix with the answers
    targets.ALONE = True
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"ok": getattr(worker, command.pop("do"))(**command)}
        except SpeechcError as error:
            answer = {"error": type(error).__name__, "code": error.code, "message": error.message, "where": error.where,
                      "hints": error.hints}  # fmt: skip
        except OSError as error:
            answer = {"error": "UsageError", "code": "SC018", "message": str(error), "where": [], "hints": []}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

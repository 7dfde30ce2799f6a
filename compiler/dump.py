"""Observers of the pass manager: print the graph after a pass, or write every step to a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

from ..ir.files import write_text
from ..ir.graph import Module
from ..ir.text import print_module, save
from ..passes.base import Context, Pass
from .manager import Step

WEIGHTS = "weights.safetensors"


class PrintAfter:
    """Print the graph after one pass (by name), after `all`, or after those that `changed` it."""

    def __init__(self, which: str, stream: TextIO | None = None):
        self.which, self.stream = which, stream or sys.stderr

    def __call__(self, index: int, p: Pass, module: Module, step: Step) -> None:
        if self.which in ("all", p.name) or (self.which == "changed" and step.changed):
            print(f"// after {index} {p} ({step.seconds:.3f} s, {step.changes} changes)", file=self.stream)
            print(print_module(module), file=self.stream)


class DumpDir:
    """Write `NN-pass.sir` for every pass that changed something; `finish` adds weights, remarks and timings."""

    def __init__(self, folder: Path, module: Module):
        self.folder, self.module, self.steps = folder, module, []
        folder.mkdir(parents=True, exist_ok=True)
        save(module, folder / "00-captured.sir", weights=False)

    def __call__(self, index: int, p: Pass, module: Module, step: Step) -> None:
        self.steps.append(step)
        if step.changed:
            save(module, self.folder / f"{index:02d}-{p.name}.sir", weights=False)

    def finish(self, context: Context) -> None:
        """Weights of all steps in one file, `remarks.txt` and `timings.json`; also after a failure."""
        self.module.weights.save(self.folder / WEIGHTS)
        write_text(self.folder / "remarks.txt", "".join(f"{r}\n" for r in context.remarks))
        write_text(self.folder / "timings.json", json.dumps([s.as_dict() for s in self.steps], indent=1))

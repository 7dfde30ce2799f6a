"""Running a C file that the target wrote: compiled into a shared library, called through ctypes."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from speechc.ir.errors import MissingError, SpeechcError
from speechc.ir.expr import evaluate, parse_size, symbols
from speechc.ir.types import DTYPES
from speechc.lowering.feeds import checked_feeds
from speechc.lowering.manifest import Manifest, initial_array, manifest_path
from speechc.lowering.streaming import solve
from speechc.lowering.target import Session


class CSession(Session):
    """A compiled file. The library lives in a temporary folder, as long as the session."""

    runner = "cc"

    def __init__(self, path: Path):
        self.manifest = Manifest.load(manifest_path(path))
        self.folder = tempfile.TemporaryDirectory(prefix="speechc-c-")
        self.library = ctypes.CDLL(compiled(path, Path(self.folder.name) / "model.so"))
        prefix = self.manifest.meta["prefix"]
        self.run_function = getattr(self.library, f"{prefix}_run")
        self.workspace = getattr(self.library, f"{prefix}_workspace")
        self.workspace.restype = ctypes.c_size_t
        self.reset()

    def reset(self):
        self.states = {p.file_name: initial_array(p) for p in self.manifest.states}

    def run_named(self, feeds):
        given = checked_feeds(self.manifest, feeds)
        sizes = {}
        for p in self.manifest.inputs:
            for text, n in zip(p.shape, given[p.file_name].shape):
                size = parse_size(str(text))
                sizes.update(dict.fromkeys(symbols(size), solve(size, n)) if len(symbols(size)) == 1 else {})
        shape = lambda p: [evaluate(parse_size(str(s)), sizes) for s in p.shape]
        inputs = [np.ascontiguousarray(given[p.file_name]) for p in self.manifest.inputs]
        outputs = [np.empty(shape(p), DTYPES[p.dtype]) for p in self.manifest.outputs]
        # The C function moves states on in place; whoever was given them earlier keeps what they were.
        self.states = {name: array.copy() for name, array in self.states.items()}
        counts = [ctypes.c_int(sizes[name]) for name in sorted(sizes)]
        room = np.empty(max(1, self.workspace(*counts)), np.uint8)
        arrays = [*inputs, *outputs, *self.states.values(), room]
        self.run_function(*counts, *(a.ctypes.data_as(ctypes.c_void_p) for a in arrays))
        return {p.name: array for p, array in zip(self.manifest.outputs, outputs)}


def compiled(path: Path, library: Path) -> Path:
    """Compile a C file into a shared library. Raises `MissingError` C800 where there is no compiler."""
    wanted = [os.environ["CC"]] if "CC" in os.environ else ["cc", "gcc", "clang"]
    compiler = next(filter(None, map(shutil.which, wanted)), None)
    if compiler is None:
        raise MissingError("C800", f"there is no C compiler ({', '.join(wanted)})", hints=["install gcc, or set CC"])
    command = [compiler, "-std=c99", "-O2", "-shared", "-fPIC", "-o", str(library), str(path), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SpeechcError("C500", f"{compiler} does not compile {path.name}: {done.stderr.strip()[:500]}")
    return library

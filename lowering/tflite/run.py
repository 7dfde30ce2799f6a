"""Sessions on LiteRT: the interpreter in a process of its own (a bad file can abort it), or in this one for timing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...ir.errors import NumericalError, UsageError
from .. import target
from ..feeds import checked_feeds
from ..manifest import Manifest, initial_array, manifest_path
from ..target import Session, needs
from .messages import receive, send

PIPE = 1 << 20  # bytes, as many as anyone may ask for


class TFLiteSession(Session):
    """A loaded file with its manifest. A new length is allocated for once and kept until the length changes."""

    runner = "LiteRT"

    def __init__(self, path: Path, threads: int | None = None, isolated: bool | None = None):
        isolated = not target.ALONE if isolated is None else isolated
        if not path.exists():
            raise UsageError("SC010", f"there is no file {path}")
        needs("ai_edge_litert.interpreter", "tflite") if not isolated else None
        self.path = path
        self.manifest = Manifest.load(manifest_path(path))
        self.engine = (Worker if isolated else Engine)(str(path), threads or os.cpu_count() or 1)
        self.reset()

    def run_named(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = checked_feeds(self.manifest, feeds)
        if self.manifest.reset:
            self.engine.reset()
        arrays.update(self.states)
        out = self.engine.run(arrays)
        for s in self.manifest.states:
            self.states[s.file_name] = out[s.output]
            out[s.output].flags.writeable = False  # so that it need not be sent back to the worker
        return {p.name: out[p.file_name] for p in self.manifest.outputs}

    def reset(self) -> None:
        ports = self.manifest.states
        stored = self.engine.signature("initial_states") if any(s.initial is None for s in ports) else {}
        self.states = {s.file_name: stored[s.file_name] if s.initial is None else initial_array(s) for s in ports}

    def operators(self) -> list[str]:
        """Names of the operators in the order of the file, DELEGATE once for each delegated partition."""
        return self.engine.operators()

    def close(self) -> None:
        self.engine.close()


class Engine:
    """One interpreter with XNNPACK; arrays by the names of the first signature."""

    def __init__(self, path: str, threads: int):
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=path, num_threads=threads)
        runner = self.interpreter.get_signature_runner(next(iter(self.interpreter.get_signature_list())))
        self.inputs = {n: d["index"] for n, d in runner.get_input_details().items()}
        self.outputs = {n: d["index"] for n, d in runner.get_output_details().items()}
        del runner  # it refers to the interpreter's memory, which forbids resizing
        self.shapes: dict[str, tuple[int, ...]] | None = None

    def prepare(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Allocate for these input shapes, unless that is what is allocated."""
        if shapes == self.shapes:
            return
        self.shapes = None
        for name, shape in shapes.items():
            self.interpreter.resize_tensor_input(self.inputs[name], shape)
        self.interpreter.allocate_tensors()
        self.shapes = shapes

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.prepare({n: a.shape for n, a in arrays.items()})
        for name, array in arrays.items():
            self.interpreter.set_tensor(self.inputs[name], array)
        self.interpreter.invoke()
        return {n: np.asarray(self.interpreter.get_tensor(i)) for n, i in self.outputs.items()}  # scalars too

    def reset(self) -> None:
        """Put variables that live inside the file back to zero."""
        if self.shapes is not None:
            self.interpreter.reset_all_variables()

    def signature(self, key: str) -> dict[str, np.ndarray]:
        """The outputs of a signature without inputs."""
        return {n: a.copy() for n, a in self.interpreter.get_signature_runner(key)().items()}

    def operators(self) -> list[str]:
        return [d["op_name"] for d in self.interpreter._get_ops_details()]

    def close(self) -> None:
        self.interpreter = None


def last_run(arrays: Mapping[str, np.ndarray], out: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs and outputs of a run by names that tell them apart."""
    return {f"in {n}": a for n, a in arrays.items()} | {f"out {n}": a for n, a in out.items()}


class Worker:
    """An `Engine` in another process, called by name over pipes."""

    def __init__(self, path: str, threads: int):
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__.rpartition(".")[0] + ".worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if sys.platform == "linux":  # wider pipes: a cache of 11 MB goes through in two thirds of the time
            import fcntl

            for pipe in (self.process.stdin, self.process.stdout):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)
        self._there: dict[str, np.ndarray] = {}  # inputs and outputs of the last run, which the process has too
        self._call("open", path, threads)

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As `Engine.run`. Arrays that the process has, and nobody can have changed, are sent by name."""
        names = {id(a): name for name, a in self._there.items() if not a.flags.writeable}
        out = self._call("run", {n: names.get(id(a), a) for n, a in arrays.items()})
        self._there = last_run(arrays, out)
        return out

    def reset(self) -> None:
        self._call("reset")

    def signature(self, key: str) -> dict[str, np.ndarray]:
        return self._call("signature", key)

    def operators(self) -> list[str]:
        return self._call("operators")

    def _call(self, method: str, *arguments):
        try:
            send(self.process.stdin, (method, arguments))
            ok, answer = receive(self.process.stdout)
        except (EOFError, BrokenPipeError, OSError):
            status = self.process.wait()
            said = self.process.stderr.read().decode(errors="replace").strip().splitlines()[-3:]
            raise NumericalError(
                "SC510",
                f"LiteRT's process ended with status {status} while it had to {method} {Path(self.path).name}",
                said,
                ["the file is damaged, or needs a runtime that knows its operators"],
            ) from None
        if not ok:
            raise NumericalError("SC511", f"LiteRT cannot {method} {Path(self.path).name}: {answer}")
        return answer

    def close(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(10)
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()

    def __del__(self):
        if getattr(self, "process", None) is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

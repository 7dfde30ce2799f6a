"""A file in a process of its own, as the process that measures sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...ir import errors
from ...ir.errors import NumericalError, SpeechcError

WORKER = f"{__name__.rpartition('.')[0]}.worker"
# The libraries below a runtime start threads of their own, as many as there are cores, unless they are told.
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Process:
    """Starts a worker; `call` asks it for something and waits. Use it as a context manager."""

    def __init__(self, path: Path, threads: int | None):
        self.path, self.threads = path, threads
        environment = dict(os.environ)
        if threads is not None:
            environment |= dict.fromkeys(LIMITS, str(threads))
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`; a pipe that nobody reads could fill up and stop the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            env=environment, text=True,
        )  # fmt: skip

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def call(self, do: str, **arguments: Any) -> Any:
        """What the worker answers. Raises its `SpeechcError`, and `NumericalError` SC516 where it has ended."""
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            status = self._process.wait()
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines()[-3:]
            raise NumericalError("SC516", f"the process that runs {self.path} ended with status {status}", said)
        answer = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"])
            error = kind.__new__(kind)
            SpeechcError.__init__(error, answer["code"], answer["message"], answer["where"], answer["hints"])
            raise error
        return answer["ok"]

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # one that has died leaves in the pipe what it was asked last
            self._process.stdin.close()
        if self._process.poll() is None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdout, self._said):
            pipe.close()

"""Standard output for results alone: what anything else prints meanwhile goes to standard error."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def diverted() -> Iterator[None]:
    """Inside, standard output is standard error: for Python, for C libraries and for child processes.

    The file descriptor is redirected where standard output is the process's own; where somebody has put another
    object in its place, only Python's side is.
    """
    own = sys.stdout
    with contextlib.ExitStack() as stack:
        if own is sys.__stdout__ and _number(sys.stdout) == 1 and _number(sys.__stderr__) is not None:
            sys.stdout.flush()
            kept = os.dup(1)
            os.dup2(_number(sys.__stderr__), 1)
            stack.callback(_put_back, kept)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _put_back(kept: int) -> None:
    sys.__stdout__.flush()
    _flush_c()
    os.dup2(kept, 1)
    os.close(kept)


def _flush_c() -> None:
    """Empty the buffers of C's stdio, which would otherwise reach the restored standard output."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)


def _number(stream) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


@contextlib.contextmanager
def ended_cleanly() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise `SystemExit` (128 + number), so that temporary files are removed."""

    def end(number: int, frame) -> None:
        raise SystemExit(128 + number)

    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        with contextlib.suppress(ValueError):  # not the main thread
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""`speechc run` on what a user names: one recording, a folder of them, arrays, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..ir.errors import SpeechcError, UsageError
from .listen import Heard, Listener
from .pipe import NAME, LivePipe, read_pipe
from .recordings import Summary, left_out, recordings_in
from .run_file import Progress, recorded, results, streamed

PIPE = Path("-")


def run_all(
    listener: Listener,
    source: Path,
    stream: bool = False,
    progress: Progress = lambda done, of: None,
    summary: Summary | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[tuple[str | None, Heard]]:
    """(recording, result) of every recording in a folder; of one recording, or of `-`, results without a name.

    A recording of a folder that cannot be used is left out and counted in `summary`; `progress` is told the recordings
    done, and those that there are. Raises `UsageError` SC057 where none can be used, else as `results`.
    """
    summary = Summary() if summary is None else summary
    if source == PIPE:
        listener.check_audio()
        found = _piped(listener, stdin or sys.stdin.buffer, stream)
    elif not source.is_dir():
        found = results(listener, source, stream, progress)
    else:
        yield from _folder(listener, source, stream, progress, summary)
        return
    summary.recordings = 1
    for heard in found:
        summary.notes += [(str(source), note) for note in heard.notes]
        yield None, heard


def _folder(
    listener: Listener, folder: Path, stream: bool, progress: Progress, summary: Summary
) -> Iterator[tuple[str, Heard]]:
    listener.check_audio()
    paths = recordings_in(folder)
    summary.recordings = len(paths)
    for done, path in enumerate(paths):
        progress(done, len(paths))
        name = str(path.relative_to(folder))
        try:
            for heard in results(listener, recorded(listener, path, name), stream):
                summary.notes += [(name, note) for note in heard.notes]
                yield name, heard
        except SpeechcError as error:
            summary.left_out.append(left_out(name, error))
    progress(len(paths), len(paths))
    if len(summary.left_out) == len(paths):
        first = summary.left_out[0]
        raise UsageError("SC057", f"none of {len(paths)} recordings can be used; of the first: {first.why}")


def _piped(listener: Listener, stdin: BinaryIO, stream: bool) -> Iterator[Heard]:
    rate = listener.sample_rate
    if stream and not listener.streams:
        listener.stream()  # says why not
    if not stream:
        yield from results(listener, read_pipe(stdin, rate))
        return
    live = LivePipe(stdin, rate, listener.chunk_samples or rate // 10)
    for heard in streamed(listener.stream(), live, True):
        if heard.final:
            heard.notes[:0] = live.notes
        yield heard


def title(source: Path) -> str:
    """How messages name what was run."""
    return NAME if source == PIPE else str(source)

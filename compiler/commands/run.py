"""`speechc run`: a compiled file on a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


def run(
    file: Annotated[Path, typer.Argument(help="An artefact with its manifest.")],
    audio: Annotated[Path, typer.Argument(help="A recording, or the inputs as .npy or .npz.")],
    stream: Annotated[
        bool, typer.Option("--stream", help="Feed it chunk by chunk and show results as they come.")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", help="Threads of the runtime.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
) -> None:
    """Run a compiled file on a recording: the text where it has tokens, else the shapes of its outputs."""
    from ..run_file import run_file

    for line in run_file(file, audio, stream, threads):
        print(json.dumps(line.as_dict()) if as_json else line, flush=True)

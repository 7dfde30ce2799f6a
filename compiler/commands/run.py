"""`speechc run`: a compiled file on a recording, a folder of them, or standard input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..flags import Compiled
from ..listen_flags import (
    Beam,
    Best,
    BiasFiles,
    Decode,
    Labels,
    Lm,
    LmUnit,
    LmWeight,
    Threads,
    Threshold,
    WordBonus,
    searching,
)


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


def run(
    file: Compiled,
    audio: Annotated[
        Path,
        typer.Argument(
            help="A recording, a folder of them, - (standard input: WAV, FLAC, Ogg, MP3, or bare 16-bit little-endian "
            "mono at the file's rate), or the inputs as .npy or .npz."
        ),
    ],
    stream: Annotated[
        bool, typer.Option("--stream", help="Feed it chunk by chunk and show results as they come.")
    ] = False,
    threads: Threads = None,
    threshold: Threshold = None,
    labels: Labels = None,
    beam: Beam = None,
    best: Best = None,
    lm: Lm = None,
    lm_weight: LmWeight = None,
    lm_unit: LmUnit = None,
    word_bonus: WordBonus = None,
    bias: BiasFiles = None,
    decode: Decode = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
) -> None:
    """Run a compiled file: the text where it has tokens, detections where it has scores, else its outputs' shapes."""
    from .. import show_heard
    from ..listen import open_listener
    from ..recordings import Summary
    from ..run_file import line_of
    from ..run_many import run_all, title

    search = searching(
        decode, beam=beam, best=best, lm=lm, lm_weight=lm_weight, lm_unit=lm_unit, word_bonus=word_bonus, bias=bias,
        threshold=threshold, labels=labels and labels.split(","),
    )  # fmt: skip
    listener = open_listener(file, threads, **search)
    summary = Summary()
    printer = show_heard.Printer()
    with show_heard.progress(title(audio), quiet or as_json) as progress:
        try:
            for name, heard in run_all(listener, audio, stream, progress, summary):
                if as_json:
                    named = {} if name is None else {"audio": name}
                    print(json.dumps(named | line_of(heard).as_dict()), flush=True)
                else:
                    printer.show(name, heard)
                    if heard.usage is not None and not quiet:
                        show_heard.usage(heard.usage)
        finally:
            if as_json and audio.is_dir():
                print(json.dumps(summary.as_dict()), flush=True)
            elif not quiet:
                show_heard.summary(summary)

"""`speechc verify`: an emitted file beside the model that it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..flags import AsJson, MinSnr, Model, Page, Quiet, SampleRate, TimeAxis, Trust, Weights, axes
from ..listen_flags import Threads


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    model: Model,
    file: Annotated[Path, typer.Argument(help="The emitted file, its manifest beside it; or a folder of several.")],
    audio: Annotated[
        Path | None, typer.Option("--audio", metavar="FILE|DIR", help="Recordings (or .npy, .npz) to compare on.")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option("--calibrate", metavar="DIR", help="What the file was calibrated with.")
    ] = None,
    sample_rate: SampleRate = None,
    min_snr: MinSnr = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="Recordings of a folder.")] = 8,
    along: Annotated[bool, typer.Option("--along", help="Show how much is left behind every module.")] = False,
    outputs_only: Annotated[
        bool, typer.Option("--outputs-only", help="Compare outputs alone, and do not look into the file.")
    ] = False,
    threads: Threads = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="An input the model does not describe: name=f32[1,T,80].")
    ] = None,
    time_axis: TimeAxis = None,
    weights: Weights = None,
    trust_pickle: Trust = False,
    report: Page = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare a file with its model on recordings, and find where along the graph they part (exit status 5)."""
    from .. import show
    from ..assembly.opening import read_model
    from ..listen.source import read_source
    from ..page import check_page, write_page
    from ..streams import diverted
    from ..verify.parts import verify_all
    from ..verify.show import show_verdict
    from ..verify.verify import Asked

    check_page(report)
    asked = Asked(audio, calibrate, sample_rate, min_snr, most, not outputs_only, threads)
    with diverted(), show.progress(quiet or as_json) as progress:
        read_source(file)
        progress(f"capturing {model}")
        subject = read_model(model, inputs, axes(time_axis), weights, trust_pickle)
        verdicts = verify_all(subject, model, file, asked, progress)
    plain = {name: verdict.as_dict() for name, verdict in verdicts.items()}
    told = plain.get("") or {"parts": plain}
    if report is not None:
        write_page(report, {"verify": told})
    if as_json:
        print(json.dumps(told))
    elif not quiet:
        for verdict in verdicts.values():
            show_verdict(verdict, along)
    for verdict in verdicts.values():
        if (error := verdict.error()) is not None:
            raise error

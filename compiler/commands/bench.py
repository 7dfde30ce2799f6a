"""`speechc bench`: how fast compiled files are, side by side, and how much memory they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..flags import AsObject, FeatureShift, Page, above_zero

LONGEST = 24 * 3600  # seconds of noise: more than any memory holds as one utterance


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(bench)


def bench(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Artefacts with their manifests, or folders of several.")
    ],
    audio: Annotated[
        Path | None, typer.Option("--audio", metavar="FILE", help="A recording to run them on; noise by default.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", help="Length of the noise.")] = 10.0,
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="1,2,…", help="Of the runtime; one, and all cores, by default.")
    ] = None,
    batch: Annotated[
        str, typer.Option("--batch", metavar="1,2,…", help="Utterances at once, for throughput, where a file can.")
    ] = "1,4,8",
    blocks: Annotated[int, typer.Option("--blocks", metavar="N", help="Blocks of runs, files in turn.")] = 20,
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="Runs that are timed in a block.")] = 5,
    most: Annotated[
        float, typer.Option("--most", metavar="S", help="Seconds a file and number of threads may take, about.")
    ] = 20.0,
    profile: Annotated[
        bool, typer.Option("--profile", help="Where the time goes: by module and by kind of operator (onnx).")
    ] = False,
    depth: Annotated[int, typer.Option("--depth", metavar="N", help="Parts of module paths in the profile.")] = 3,
    frame_shift: FeatureShift = None,
    report: Page = None,
    as_json: AsObject = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables.")] = False,
) -> None:
    """Measure latency (median, 95 %, 99 %), real-time factor, throughput, memory and loading of files, in turn."""
    import os

    from ...ir.errors import UsageError
    from ..bench import show
    from ..bench.measure import Settings, machine, measure
    from ..durations import tick_rate
    from ..page import check_page, write_page

    check_page(report)
    above_zero(seconds=seconds, blocks=blocks, runs=runs, most=most, depth=depth)
    if audio is not None and not audio.exists():
        raise UsageError("SC010", f"{audio} does not exist")
    if audio is not None and audio.is_dir():
        raise UsageError("SC018", f"{audio} is a folder; files are timed on one recording", hints=["--audio FILE"])
    if seconds > LONGEST:
        raise UsageError("SC017", f"--seconds {seconds:g}: {LONGEST} at most")
    cores = os.cpu_count() or 1
    settings = Settings(
        seconds=seconds,
        audio=audio,
        frame_shift=None if frame_shift is None else str(1 / tick_rate(None, None, frame_shift)),
        threads=_numbers(threads, "--threads") if threads is not None else tuple(dict.fromkeys((1, cores))),
        batches=_numbers(batch, "--batch"),
        blocks=blocks,
        runs=runs,
        most=most,
        profile=20 if profile else None,
    )
    with show.progress(quiet or as_json) as progress:
        measured = measure(files, settings, progress)
    told = {"machine": machine(), "audio": None if audio is None else str(audio), "noise_seconds": seconds}
    told["files"] = [m.as_dict() for m in measured]
    if report is not None:
        write_page(report, {"bench": told})
    if as_json:
        print(json.dumps(told))
    elif not quiet:
        show.report(measured, machine(), depth)


def _numbers(text: str, flag: str) -> tuple[int, ...]:
    from ...ir.errors import UsageError

    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise UsageError("SC017", f"{flag} {text}: numbers of 1 or more, such as 1,4")
    return found

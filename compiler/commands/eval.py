"""`speechc eval`: word and character errors of files on recordings with texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..flags import AsJson, Page, Quiet
from ..listen_flags import Beam, BiasFiles, Decode, Lm, LmUnit, LmWeight, Threads, WordBonus, searching


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval")(eval_)


def eval_(
    files: Annotated[list[Path], typer.Argument(help="Artefacts with their manifests; the first is compared with.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="LIST|DIR", help='Lines {"audio", "text"}, or recordings with .txt beside them.'
        ),
    ],
    audio_root: Annotated[
        Path | None, typer.Option("--audio-root", metavar="DIR", help="Where the recordings of a list lie.")
    ] = None,
    normalise_text: Annotated[
        str, typer.Option("--normalise-text", metavar="plain|whisper|none", help="Before counting (whisper: English).")
    ] = "plain",
    gate: Annotated[
        list[str] | None, typer.Option("--gate", metavar="RULE", help="wer<=5%, cer<=..., wer<=1.02x, left-out<=0.")
    ] = None,
    worst: Annotated[int, typer.Option("--worst", metavar="N", min=0, help="Utterances to show side by side.")] = 5,
    resamples: Annotated[int, typer.Option("--resamples", metavar="N", min=100, help="Of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the bootstrap.")] = 0,
    transcripts: Annotated[
        Path | None, typer.Option("--transcripts", metavar="FILE", help="Write every utterance as a JSON line.")
    ] = None,
    beam: Beam = None,
    lm: Lm = None,
    lm_weight: LmWeight = None,
    lm_unit: LmUnit = None,
    word_bonus: WordBonus = None,
    bias: BiasFiles = None,
    decode: Decode = None,
    threads: Threads = None,
    report: Page = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Count word and character errors, with confidence intervals, and compare every file with the first."""
    from ...ir.errors import UsageError
    from .. import show_heard
    from ..evaluate.data import read_data
    from ..evaluate.evaluation import evaluate
    from ..evaluate.gates import check_gates, enforce, parse_gate
    from ..evaluate.normalise import normaliser
    from ..evaluate.show import show
    from ..evaluate.transcripts import write_transcripts
    from ..listen import open_listener
    from ..page import check_page, write_page

    check_page(report)
    if transcripts is not None and (transcripts.is_dir() or not transcripts.absolute().parent.is_dir()):
        raise UsageError("SC011", f"--transcripts {transcripts} is a folder, or in none that there is")
    gates = check_gates([parse_gate(text) for text in gate or []], len(files))
    normaliser(normalise_text)
    items, missing = read_data(data, audio_root)
    search = searching(decode, beam=beam, lm=lm, lm_weight=lm_weight, lm_unit=lm_unit, word_bonus=word_bonus, bias=bias)
    listeners = [open_listener(file, threads, **search) for file in files]
    with show_heard.progress(str(data), quiet or as_json) as progress:
        found = evaluate(
            listeners, items, missing, normalise_text, str(data), resamples=resamples, seed=seed, progress=progress
        )
    found.verdicts = [verdict for g in gates for verdict in g.check(found)]
    if transcripts is not None:
        write_transcripts(found, transcripts)
    if report is not None:
        write_page(report, {"eval": found.as_dict(worst)})
    if as_json:
        print(json.dumps(found.as_dict(worst)))
    elif not quiet:
        show(found, show_heard.console(sys.stdout), worst)
    enforce(found.verdicts)

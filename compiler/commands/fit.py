"""`speechc fit`: whether a compiled file fits devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..flags import AsObject, Compiled, FeatureShift, above_zero


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(fit)


def fit(
    file: Compiled,
    device: Annotated[
        list[str] | None, typer.Option("--device", metavar="NAME", help="A device, or a kind; all of them by default.")
    ] = None,
    devices: Annotated[
        Path | None, typer.Option("--devices", metavar="FILE", help="More devices (TOML; see docs/devices.md).")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="Length of a recording, where the file takes any.")
    ] = 10.0,
    cores: Annotated[
        int | None, typer.Option("--cores", metavar="N", help="Cores that the model may use: one by default.")
    ] = None,
    frame_shift: FeatureShift = None,
    tokens: Annotated[
        float, typer.Option("--tokens-per-second", metavar="N", help="Of a decoder that makes them one by one.")
    ] = 4.0,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit status 7 where it does not fit a device that is named.")
    ] = False,
    as_json: AsObject = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Judge whether a compiled file fits devices: memory, storage, real-time margin, stores; and what would help."""
    from ...ir.errors import BudgetError
    from ..durations import tick_rate
    from ..fit import show
    from ..fit.need import needs_of
    from ..fit.table import load_table
    from ..fit.verdict import in_stores, judge
    from ..listen.source import read_source

    above_zero(seconds=seconds, cores=cores, tokens_per_second=tokens)
    table = load_table(devices)
    chosen = table.chosen(device)
    shift = None if frame_shift is None else 1 / tick_rate(None, None, frame_shift)
    need = needs_of(read_source(file), seconds, shift, tokens)
    verdicts = [judge(need, d, table.assumptions, cores) for d in chosen]
    stores = in_stores(need, table.stores)
    if as_json:
        told = {
            "need": need.as_dict(),
            "devices": [v.as_dict() for v in verdicts],
            "stores": [{"name": s.name, "limit": s.limit, "under": under} for s, under in stores],
        }
        print(json.dumps(told))
    elif not quiet:
        show.report(need, verdicts, stores, table.assumptions, bool(device))
    if gate and (missed := [v for v in verdicts if not v.fits]):
        lacks = [f"{v.device.name}: {', '.join(r.name for r in v.resources if not r.fits)}" for v in missed]
        hints = [f"{v.device.key}: {text}" for v in missed for text in v.remedies]
        raise BudgetError("SC700", f"{file} does not fit {len(missed)} of {len(verdicts)} devices", lacks, hints)

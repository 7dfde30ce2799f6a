"""Arguments and flags that several commands have, and what is read from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..ir.errors import UsageError

Model = Annotated[
    str, typer.Argument(help="torch.export archive, TorchScript, pickled module, package.module:factory or .sir")
]
Compiled = Annotated[Path, typer.Argument(help="An artefact with its manifest, or a folder of several.")]
TimeAxis = Annotated[list[str] | None, typer.Option("--time-axis", help="Axis of time: 1, or name=1 for one input.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="State dict for package.module:factory.")]
Trust = Annotated[bool, typer.Option("--trust-pickle", help="Load a pickled module, which can run any code.")]
SampleRate = Annotated[int | None, typer.Option("--sample-rate", metavar="HZ", help="Of the model's audio.")]
MinSnr = Annotated[float | None, typer.Option("--min-snr", metavar="DB", help="What the file must reach.")]
FeatureShift = Annotated[
    str | None, typer.Option("--frame-shift", metavar="10ms", help="Of features, where the file takes them.")
]
Page = Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Write a page about it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
AsObject = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def axes(texts: list[str] | None) -> int | dict[str, int]:
    """What `--time-axis` says. Raises `UsageError` SC016."""
    if not texts:
        return 1
    try:
        if len(texts) == 1 and "=" not in texts[0]:
            return int(texts[0])
        return {name: int(axis) for name, axis in (t.split("=") for t in texts)}
    except ValueError:
        raise UsageError("SC016", f"--time-axis {' '.join(texts)}: write 1, or name=1 for each input") from None


def named(text: str, flag: str = "") -> tuple[str, Any]:
    """The name and the value of `NAME=VALUE`: JSON, or else a word. Raises `UsageError` SC015."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError("SC015", f"{flag}{text}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def above_zero(**flags: float | None) -> None:
    """Raise `UsageError` SC017 for a flag (by the name of its argument) that is given and not above 0, and finite."""
    for name, value in flags.items():
        if value is not None and not 0 < value < float("inf"):
            raise UsageError("SC017", f"--{name.replace('_', '-')} {value:g}: a number that is more than 0")

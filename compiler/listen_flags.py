"""Flags that say how to listen, the same for every command that opens a file to hear with."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..ir.errors import UsageError
from .flags import named

Threads = Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="Threads of the runtime.")]
Threshold = Annotated[
    float | None, typer.Option("--threshold", metavar="SCORE", help="Print detections: scores from this on (0.5).")
]
Decode = Annotated[
    list[str] | None,
    typer.Option("--decode", metavar="NAME=VALUE", help="Any option of the decoding, such as language=en; several."),
]
Labels = Annotated[
    str | None, typer.Option("--labels", metavar="A,B,...", help="Print detections: what the scores are of, in order.")
]
Beam = Annotated[
    int | None,
    typer.Option("--beam", metavar="N", help="Beam search that keeps N hypotheses (greedy where not given)."),
]
Best = Annotated[int | None, typer.Option("--best", metavar="N", help="Tell the N best results of a beam search.")]
Lm = Annotated[
    str | None, typer.Option("--lm", metavar="FILE", help="n-gram model for a beam search: ARPA, or kenlm's format.")
]
LmWeight = Annotated[
    float | None, typer.Option("--lm-weight", metavar="W", help="How much its log-probabilities count (0.5).")
]
LmUnit = Annotated[
    str | None, typer.Option("--lm-unit", metavar="word|token", help="What the n-gram model is over (word).")
]
WordBonus = Annotated[
    float | None, typer.Option("--word-bonus", metavar="B", help="Added for every word (token, for such a model).")
]
BiasFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--bias", metavar="FILE[=BOOST]", help="Words to listen for, one a line; BOOST is a logarithm a letter (1.0)."
    ),
]


def options_of(options: list[str] | None) -> dict[str, Any]:
    """`--decode` options as `decoding` of `open_listener`.

    Raises `UsageError` SC015 for what is not NAME=VALUE, SC053 for what is no option of a decoding.
    """
    found: dict[str, Any] = {}
    for text in options or []:
        name, value = named(text, "--decode ")
        if name in ("path", "threads"):
            raise UsageError("SC053", f"there is no decoding option {name}")
        found[name] = value
    return found


def searching(decode: list[str] | None, **given: Any) -> dict[str, Any]:
    """The flags of a search that were given and `--decode` options, as `decoding` of `open_listener`.

    Raises `UsageError` as `options_of`, and SC015 for what is given as both.
    """
    found, more = {n: v for n, v in given.items() if v is not None and v != []}, options_of(decode)
    if twice := sorted(found.keys() & more.keys()):
        raise UsageError("SC015", f"{', '.join(twice)}: given as a flag and with --decode")
    return found | more

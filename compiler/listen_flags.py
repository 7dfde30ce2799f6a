"""Flags that say how to listen, the same for every command that opens a file to hear with."""

from __future__ import annotations

from typing import Annotated

import typer

Threads = Annotated[int | None, typer.Option("--threads", metavar="N", help="Threads of the runtime.")]
Threshold = Annotated[
    float | None, typer.Option("--threshold", metavar="SCORE", help="Print detections: scores from this on (0.5).")
]
Labels = Annotated[
    str | None, typer.Option("--labels", metavar="A,B,...", help="Print detections: what the scores are of, in order.")
]

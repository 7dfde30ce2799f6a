"""`speechc front-ends`: the features that can be named, with their options; and one of them in full."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command("front-ends")(front_ends)


def front_ends(
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]", help="Say everything of this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """List the features that --front-end and --features know, with their options; or describe one."""
    from ..show import out
    from ..show_front_ends import described, listed, table

    if spec is not None:
        found = described(spec)
        if as_json:
            print(json.dumps(found))
        else:
            for name, value in found.items():
                print(f"{name}: {json.dumps(value) if isinstance(value, dict) else value}")
    elif as_json:
        print(json.dumps(listed()))
    else:
        out.print(table())

"""`speechc page`: one page of what several commands printed with `--json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(page)


def page(
    report: Annotated[Path, typer.Argument(metavar="FILE.html", help="The page to write.")],
    results: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND=FILE.json…", help="compile, verify, eval, bench or fit, as --json printed it."),
    ],
) -> None:
    """Put what compile, verify, eval, bench and fit printed with --json together on one self-contained page."""
    from ...ir.errors import UsageError
    from ..page import write_page
    from ..page.sections import MADE

    found: dict[str, list[Any]] = {}
    for given in results:
        name, equals, path = given.partition("=")
        if not equals or name not in MADE:
            raise UsageError("SC088", f"{given}: write COMMAND=FILE.json", hints=[f"one of {', '.join(MADE)}"])
        found.setdefault(name, []).extend(_read(Path(path), name))
    write_page(report, found)


def _read(path: Path, name: str) -> list[Any]:
    from ...ir.errors import UsageError
    from ..page.sections import SIGNS

    if not path.exists():
        raise UsageError("SC010", f"{path} does not exist")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError("SC088", f"{path} is not JSON ({error})", hints=[f"speechc {name} … --json"]) from None
    items = data if isinstance(data, list) else [data]
    for item in items:
        if not isinstance(item, dict) or not ({"parts", *SIGNS[name]} & item.keys()):
            raise UsageError(
                "SC088", f"{path} is not what `speechc {name} --json` prints", hints=[f"speechc {name} … --json"]
            )
    return items

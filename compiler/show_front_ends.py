"""What is printed of front ends: the table of all with their options, and one in full."""

from __future__ import annotations

import inspect
from dataclasses import MISSING
from typing import Any

from rich.markup import escape
from rich.table import Table

from ..passes.front_end.reference import facts
from ..passes.front_end.spec import parse, registered


def listed() -> list[dict[str, Any]]:
    """Every front end, and every stage that may stand behind one: name, options with defaults, what it is."""
    made = []
    for kind, classes in zip(("front end", "stage behind"), registered()):
        for name, cls in sorted(classes.items()):
            options = {f.name: f.default for f in cls.options() if f.default is not MISSING}
            made.append({"name": name, "kind": kind, "options": options, "doc": inspect.getdoc(cls) or ""})
    return made


def table() -> Table:
    """The table of `speechc front-ends`."""
    shown = Table("name", "options", "what it is", box=None, pad_edge=False)
    for found in listed():
        options = ", ".join(n if v is None else f"{n}={v}" for n, v in found["options"].items())
        name = found["name"] if found["kind"] == "front end" else f"+{found['name']}"
        shown.add_row(name, escape(options), escape(found["doc"].partition("\n")[0]))
    return shown


def described(text: str) -> dict[str, Any]:
    """What a manifest would say of a specification; where it is computed, and by whom, is left out."""
    return {n: v for n, v in facts(parse(text), "", inside=False).items() if n not in ("input", "inside")}

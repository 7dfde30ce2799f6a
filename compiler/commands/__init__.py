"""The commands of `speechc`, one file each: a file here is a command, without a change anywhere else."""

from __future__ import annotations

import importlib
import pkgutil

import typer


def add_all(app: typer.Typer) -> None:
    """Add every command of this folder; each file has `add(app)` and imports nothing heavy before it is called."""
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f".{module}", __name__).add(app)

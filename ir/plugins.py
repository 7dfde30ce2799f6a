"""Installed plugins: packages whose entry points in the group `speechc.plugins` register on import.

    [project.entry-points."speechc.plugins"]
    c = "speechc_c"

Importing the module that an entry point names fills the same tables that the files of this package fill: ops, passes,
targets, lowerings, streaming rules. The tables load the plugins when somebody first asks for what may be in one. What a
plugin can register only beside a heavy package waits (`later`).
"""

from __future__ import annotations

import importlib
import os
import threading
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import MissingError, SpeechcError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "speechc.plugins"
# Files in which an error is raised, not made.
_ROOT = Path(__file__).parents[1]
_NOT_THEIRS = (
    "<",
    importlib.__path__[0],
    *(f"{_ROOT / name}{os.sep}" for name in ("ir", "passes", "lowering", "compiler")),
)
_lock = threading.RLock()
_done: set[str] = set()  # parts that are loaded, or being loaded
_failed: dict[str, Exception] = {}  # by module: a second import of half a plugin would say something else
_waiting: dict[str, tuple[str, ...]] = {}  # modules by part


def load() -> None:
    """Import every installed plugin, once.

    Raises, naming the plugin: `UsageError` SC066 where one cannot be imported or registers what there is already, SC067
    where two have one name; `MissingError` SC800 where a package that one needs is missing.
    """
    with _lock:
        if "" in _done:
            return
        _done.add("")  # a plugin may ask for a table while it registers
        try:
            for point in _points():
                _loaded(point.load, point.value, _place(point))
        except SpeechcError:
            _done.discard("")
            raise


def _points() -> list[EntryPoint]:
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=GROUP), key=lambda p: p.name)
    for a, b in pairwise(points):
        if a.name == b.name:
            places = [_place(a), _place(b)]
            raise UsageError("SC067", f"two plugins are called {a.name}", places, ["pip uninstall one of them"])
    return points


def later(part: str, module: str) -> None:
    """Have `module` imported when `part` of the compiler is first used. `"capture"`: when a PyTorch model is read."""
    _waiting[part] = (*_waiting.get(part, ()), module)


def load_part(part: str) -> None:
    """Import what plugins registered for `part` with `later`. Raises as `load`."""
    load()
    with _lock:
        if part not in _done:
            for module in _waiting.get(part, ()):
                _loaded(lambda module=module: importlib.import_module(module), module, f"part {module}")
            _done.add(part)


def is_plugged(registered: Callable) -> bool:
    """Whether what is being registered is a plugin's. Then a table first completes itself.

    So what is there twice is the plugin's fault, whichever is imported first.
    """
    return not registered.__module__.startswith(__package__.rpartition(".")[0] + ".")


def _place(point: EntryPoint) -> str:
    package = f", of {point.dist.name} {point.dist.version}" if point.dist else ""
    return f"{point.name} ({point.value}{package})"


def _loaded(load, module: str, place: str) -> None:
    try:
        if module in _failed:
            raise _failed[module]
        load()
    except Exception as error:
        _failed[module] = error
        own = module.partition(":")[0].partition(".")[0]
        missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing and missing not in (own, "speechc"):
            raise MissingError(
                "SC800",
                f"the plugin {place} needs the package {missing}, which is missing",
                hints=[f"pip install {missing}"],
            ) from error
        said = error.message if isinstance(error, SpeechcError) else f"{type(error).__name__}: {error}"
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_NOT_THEIRS)]
        where = [f"{f.filename}:{f.lineno}: {f.line}" for f in frames[-1:]]
        raise UsageError(
            "SC066", f"the plugin {place} cannot be loaded: {said}", where, ["repair it, or pip uninstall its package"]
        ) from error

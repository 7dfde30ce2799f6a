"""A model with its recipes applied, for as long as it is exported."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from . import Recipe, registered


@dataclass
class Cooked:
    """A model to export, and the paths of the modules that every recipe was used for."""

    model: torch.nn.Module
    used: dict[Recipe, dict[str, None]]

    def notes(self) -> list[str]:
        """What to tell the user: one text a recipe."""
        return [_note(r, list(paths)) for r, paths in self.used.items()]


@contextlib.contextmanager
def cooked(model: torch.nn.Module) -> Iterator[Cooked]:
    """The model with the methods and modules that recipes name replaced; afterwards it is what it was.

    The model is the same one unless a recipe replaces it as a whole.
    """
    table, made = registered(), Cooked(model, {})
    with contextlib.ExitStack() as undo:
        made.model = _replaced(model, table, made.used, undo)
        for path, module in made.model.named_modules():
            for found in _of(table, module):
                undo.enter_context(_standing_in(module, found, path, made.used))
        yield made


def _replaced(model, table: Mapping, used: dict, undo: contextlib.ExitStack) -> torch.nn.Module:
    """The model with other modules where recipes give some; a module that is in two places is replaced once."""
    others: dict[int, torch.nn.Module] = {}
    for path, module in list(model.named_modules()):
        found = table.get((_owner(module, "forward"), ""))
        if found is not None:
            used.setdefault(found, {})[path or "(model)"] = None
            others[id(module)] = found.cook(module).train(module.training)
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and id(child) in others:
                undo.callback(parent._modules.__setitem__, name, child)
                parent._modules[name] = others[id(child)]
    return others.get(id(model), model)


def _of(table: Mapping, module: torch.nn.Module) -> list[Recipe]:
    """The recipes for methods of a module: those of the class that a method comes from."""
    names = {_name(cls) for cls in type(module).__mro__}
    return [r for (cls, method), r in table.items() if method and cls in names and _owner(module, method) == cls]


def _owner(module: torch.nn.Module, method: str) -> str:
    """The qualified name of the class that a method of a module is defined in."""
    return next((_name(cls) for cls in type(module).__mro__ if method in vars(cls)), "")


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _standing_in(module: torch.nn.Module, found: Recipe, path: str, used: dict) -> contextlib.AbstractContextManager:
    """The recipe's function instead of the method, on this module alone; a call of it is a use."""
    original = getattr(module, found.method)

    @functools.wraps(original)
    def call(*arguments, **more):
        used.setdefault(found, {})[path or "(model)"] = None
        return found.cook(module, original, *arguments, **more)

    return instead(module, found.method, call)


@contextlib.contextmanager
def instead(module: torch.nn.Module, name: str, value: Any) -> Iterator[None]:
    """`value` as the method or attribute `name` of one module, until the end of the block."""
    had, before = name in vars(module), vars(module).get(name)
    vars(module)[name] = value
    try:
        yield
    finally:
        if had:
            vars(module)[name] = before
        else:
            del vars(module)[name]


def _note(r: Recipe, paths: list[str]) -> str:
    where = paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    return f"a recipe stands in for {r.method or 'all'} of {r.cls.rpartition('.')[2]} ({where}): {r.why}"

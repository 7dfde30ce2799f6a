"""Module recipes: code of a model that cannot be exported as it is written, and what is exported in its place.

A recipe belongs to a class by its qualified name, so the class's package is imported only by models that use it. Before
export every module of a model is looked up here; afterwards the model is as it was. What it is compared with runs
without recipes, so a wrong one fails the proof. Importing this package does not import torch.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FILES = ("codecs", "moonshine", "sew")  # the recipes that come with speechc, one file a package's model
RECIPES: dict[tuple[str, str], Recipe] = {}  # by class and method; "" where the module itself is replaced
_lock = threading.RLock()
_loaded: set[str] = set()


@dataclass(frozen=True)
class Recipe:
    """What to do with modules of class `cls` (its qualified name), and `why`, which users are told.

    `cook(module, original, *arguments)` stands in for the method; without a method, `cook(module)` gives the other
    module.
    """

    cls: str
    method: str
    why: str
    cook: Callable[..., Any]


def recipe(cls: str, why: str, method: str = "forward") -> Callable:
    """Register a function that is called instead of a method of `cls` while a model is exported.

    It gets the module, the bound method that it stands in for, and the arguments of the call. `cls` is the qualified
    name of the class that defines the method (`"package.module.Class"`): subclasses that inherit the method are meant
    too, those that have their own are not. Raises `TypeError` where that method has a recipe already.
    """
    if not method:
        raise TypeError("a recipe is for a method")
    return lambda cook: _add(Recipe(cls, method, why, cook))


def replacement(cls: str, why: str) -> Callable:
    """Register a function that gives the `nn.Module` to export instead of a module of class `cls`.

    It gets the module, and should share its parameters. Subclasses are meant as in `recipe`, by their `forward`. Raises
    `TypeError` where the class has a replacement already.
    """
    return lambda cook: _add(Recipe(cls, "", why, cook))


def _add(made: Recipe) -> Callable:
    from ....ir.plugins import is_plugged

    if is_plugged(made.cook):
        _load()  # what is there twice is the plugin's fault
    key = (made.cls, made.method)
    if key in RECIPES:
        raise TypeError(f"there are two recipes for {made.method or 'the whole'} of {made.cls}")
    RECIPES[key] = made
    return made.cook


def registered() -> dict[tuple[str, str], Recipe]:
    """All recipes, those of installed plugins included. Imports torch. Raises as `ir.plugins.load_part`."""
    from ....ir import plugins

    _load()
    plugins.load_part("capture")
    return RECIPES


def _load() -> None:
    with _lock:
        for name in FILES:
            if name not in _loaded:
                _loaded.add(name)
                importlib.import_module(f".{name}", __package__)

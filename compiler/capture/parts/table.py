"""The table of recipes by the qualified name of a model's class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ...assembly.parts import Parts

Recipe = Callable[[torch.nn.Module, Path | None], Parts]
RECIPES: dict[str, Recipe] = {}


def parts(*classes: str) -> Callable[[Recipe], Recipe]:
    """Register `recipe(model, folder)` for classes such as `"package.module.Class"`.

    `folder` is the directory that the model was read from (None: it was given as a module).
    """

    def add(recipe: Recipe) -> Recipe:
        RECIPES.update(dict.fromkeys(classes, recipe))
        return recipe

    return add


def parts_of(model: torch.nn.Module, folder: Path | None = None) -> Parts | None:
    """The parts of a model, by the recipe for its class or the nearest that it is derived from; None: one graph."""
    from . import parakeet, whisper  # noqa: F401 (each registers its recipe)

    for cls in type(model).__mro__:
        recipe = RECIPES.get(f"{cls.__module__}.{cls.__qualname__}")
        if recipe is not None:
            return recipe(model, folder)
    return None

"""Recipes that take models of several graphs apart: `parts_of(model)`, and a table by class that plugins can add to."""

from .directory import opened
from .table import parts, parts_of

__all__ = ["opened", "parts", "parts_of"]

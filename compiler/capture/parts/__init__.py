"""Recipes that take models of several graphs apart: `parts_of(model)`, and a table by class that plugins can add to."""

from .table import parts, parts_of

__all__ = ["parts", "parts_of"]

"""Cascades: files that listen in turn, each asleep until the one before it finds something."""

from .cascade import Cascade
from .stage import Stage

__all__ = ["Cascade", "Stage"]

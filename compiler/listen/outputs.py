"""Any other file: its outputs as they are."""

from __future__ import annotations

from .listener import listens
from .single import SingleFile


@listens("outputs")
class Outputs(SingleFile):
    """The outputs of a file of which no more is known: the kind of a file that no other kind fits."""

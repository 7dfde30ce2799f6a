"""Listeners: whatever turns audio into results, one interface for `run`, `eval`, `bench` and `verify`.

`open_listener(path)` opens a file with its manifest, or a folder with several (`bundle.json`).
"""

from ..cascade import cascade  # noqa: F401 (registers its kind)
from . import attention, ctc, outputs, scores, transducer  # noqa: F401 (each registers its kind)
from .listener import Heard, Listener, Segment, Stream, joined, listens
from .opening import open_listener
from .source import BUNDLE, Source

__all__ = ["BUNDLE", "Heard", "Listener", "Segment", "Source", "Stream", "joined", "listens", "open_listener"]

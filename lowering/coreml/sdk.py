"""coremltools, imported at first use: without its front ends for TensorFlow and scikit-learn, and without a word."""

from __future__ import annotations

import logging
import sys

from ..target import needs

UNUSED = ("tensorflow", "sklearn")  # it imports them where they are installed, which takes most of the time


def sdk():
    """The package coremltools. Raises `MissingError` SC800 (exit status 8) where it is not installed."""
    if "coremltools" in sys.modules:
        return needs("coremltools", "coreml")
    log = logging.getLogger("coremltools")
    log.setLevel(logging.ERROR)  # versions "not tested with", and, off macOS, what cannot be loaded
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        return needs("coremltools", "coreml")
    finally:
        for name in hidden:
            del sys.modules[name]

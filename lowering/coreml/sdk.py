"""coremltools, imported at first use and without what it prints about its neighbours and the missing Core ML."""

from __future__ import annotations

import logging
import os
import sys

from ..target import needs


def sdk():
    """The package coremltools. Raises `MissingError` SC800 (exit status 8) where it is not installed."""
    if "coremltools" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it imports TensorFlow where that is installed
        log = logging.getLogger("coremltools")
        log.setLevel(logging.ERROR)  # versions "not tested with", and, off macOS, what cannot be loaded
    return needs("coremltools", "coreml")

"""Every pass that ships with speechc, by file; importing this registers them."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

_NOT_PASSES = {"base", "rewrite", "library"}

for _module in pkgutil.iter_modules([str(Path(__file__).parent)]):
    if _module.name not in _NOT_PASSES:
        importlib.import_module(f".{_module.name}", __package__)

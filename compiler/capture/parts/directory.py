"""Reads a model from a transformers directory (`config.json` and safetensors), without running code from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from ....ir.errors import CaptureError
from ....lowering.target import needs

CONFIG = "config.json"


def is_directory(path: Path) -> bool:
    """Whether a path is a transformers directory."""
    return (path / CONFIG).is_file()


def digest(path: Path) -> str:
    """The SHA-256 of the configuration and the weights, in hexadecimal."""
    found = hashlib.sha256()
    for part in (path / CONFIG, *sorted(path.glob("*.safetensors"))):
        with part.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def opened(path: Path) -> torch.nn.Module:
    """The model, in evaluation mode, in float32.

    Raises `CaptureError` SC400 for a directory without safetensors (a pickled checkpoint is not read), SC401 for one of
    no class that transformers has, SC402 for damaged weights; `DependencyError` SC800 without transformers.
    """
    try:
        names = json.loads((path / CONFIG).read_text()).get("architectures") or []
    except ValueError:
        raise CaptureError("SC402", f"{path / CONFIG} is no JSON") from None
    if not list(path.glob("*.safetensors")):
        hints = ["save it with save_pretrained(…, safe_serialization=True)"]
        raise CaptureError("SC400", f"{path} has no .safetensors weights; others can run code", hints=hints)
    transformers = needs("transformers", "transformers")
    cls = next((getattr(transformers, n) for n in names if hasattr(transformers, n)), None)
    if cls is None:
        known = f"transformers {transformers.__version__}"
        raise CaptureError("SC401", f"{path}: {known} has no class {', '.join(names) or '(none named)'}")
    transformers.utils.logging.disable_progress_bar()
    try:
        model = cls.from_pretrained(path, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    except Exception as error:
        raise CaptureError("SC402", f"{path} cannot be read: {type(error).__name__}: {error}") from error
    return model.eval()

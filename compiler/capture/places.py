"""Places in the user's own code, from exceptions and from running frames."""

from __future__ import annotations

import linecache
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

import torch

# Code that is not the user's: torch, the interpreter's own modules, and this package's capture.
_FOREIGN = re.compile(
    r"[/\\]torch[/\\]|^<(frozen|string)|[/\\]compiler[/\\]capture[/\\]|[/\\](contextlib|functools)\.py$"
)

# Between a model's `if` and the moment when torch decides it.
_MACHINERY = re.compile(
    r"[/\\]torch[/\\](__init__\.py|fx[/\\]experimental[/\\])|[/\\]compiler[/\\]capture[/\\]|functools\.py$"
)
_TORCH = re.compile(r"[/\\]torch[/\\](?!nn[/\\])")


def module_paths(module: torch.nn.Module) -> dict[int, tuple[str, str]]:
    """Path and class of every submodule, by identity."""
    return {id(m): (name or "(model)", type(m).__name__) for name, m in module.named_modules()}


def place_of_error(paths: Mapping[int, tuple[str, str]], error: BaseException) -> list[str]:
    """The user's innermost line under an exception, with the path of the module whose code it is."""
    return _place(paths, list(traceback.walk_tb(error.__traceback__)))


def place_now(paths: Mapping[int, tuple[str, str]]) -> list[str]:
    """The user's innermost line on the running stack."""
    return _place(paths, list(_stack(sys._getframe(1)))[::-1])


def asked_directly() -> bool:
    """Whether the condition that torch is about to take for granted is written in a model's Python code.

    The code of torch.nn counts as a model's; the rest of torch asks about memory layout and for error messages.
    """
    for frame, _ in _stack(sys._getframe(1)):
        name = frame.f_code.co_filename
        if not _MACHINERY.search(name):
            return not _TORCH.search(name)
    return False


def _stack(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    while frame is not None:
        yield frame, frame.f_lineno
        frame = frame.f_back


def _home(frame: FrameType) -> str:
    """The installed package that a frame's code belongs to; empty for code that is not installed."""
    found = re.search(r"(?:site|dist)-packages[/\\]([^/\\]+)", frame.f_code.co_filename)
    return found[1] if found else ""


def _place(paths: Mapping[int, tuple[str, str]], frames: list[tuple[FrameType, int]]) -> list[str]:
    """Frames are given from the outermost to the innermost; those in front of the model's own do not count."""
    inside = [i for i, (f, _) in enumerate(frames) if id(f.f_locals.get("self")) in paths]
    frames = frames[inside[0] :] if inside else frames
    homes = {_home(f) for f, _ in frames if id(f.f_locals.get("self")) in paths}
    own = [(f, n) for f, n in frames if not _FOREIGN.search(f.f_code.co_filename) and _home(f) in {"", *homes}]
    if not own:
        return []
    frame, number = own[-1]
    name = frame.f_code.co_filename
    line = f"{Path(name).name}:{number} in {frame.f_code.co_name}: {linecache.getline(name, number).strip()}"
    owners = [paths[id(f.f_locals["self"])] for f, _ in frames if id(f.f_locals.get("self")) in paths]
    path, cls = owners[-1] if owners else ("", "")
    return [f"{path} ({cls}, {line})" if path else line]

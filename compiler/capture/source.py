"""Opening a model in any form, recognised by content: module, exported program, file, `package.module:factory`."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ...ir import plugins
from ...ir.errors import CaptureError, UsageError
from ..assembly.parts import Parts
from . import archive, pickled, script_file, script_module
from .parts import directory, parts_of
from .recognise import Kind, recognise

_FACTORY = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)$")


@dataclass
class Source:
    """An opened model: a module or an exported program, what its file says about it, and the file's SHA-256.

    For TorchScript, `module` runs the graphs of `script`. `parts`: what a model of several graphs consists of.
    """

    name: str
    module: torch.nn.Module | None = None
    script: torch.jit.ScriptModule | None = None
    program: ExportedProgram | None = None
    about: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    notes: list[str] = field(default_factory=list)
    parts: Parts | None = None


def open_source(model, weights=None, trust_pickle: bool = False, whole: bool = False) -> Source:
    """Open a model.

    `model` is an `nn.Module`, an `ExportedProgram`, `Parts`, a path (also of a transformers directory), or
    `package.module:factory`, and may be open already; `weights` the path of a state dict for a module or factory;
    `whole` keeps a model whose class is known to be several parts in one. Raises `CaptureError`: SC400 missing or
    unreadable, SC401 not a model, SC402 damaged, SC403 a pickle that was not asked for, SC404 weights without their
    model, SC406 the factory or its weights do not work.
    """
    if isinstance(model, Source):
        return model
    plugins.load_part("capture")  # an archive with operators of a plugin opens only once they are known
    if isinstance(model, ExportedProgram):
        source = Source("model", program=model)
    elif isinstance(model, torch.jit.ScriptModule):
        source = _from_script(model)
    elif isinstance(model, Parts):
        source = Source(model.name, parts=model)
    elif isinstance(model, torch.nn.Module):
        source = Source(type(model).__name__, module=model)
    else:
        text = str(model)
        factory = _FACTORY.match(text)
        source = (
            _from_factory(*factory.groups())
            if factory and not Path(text).exists()
            else _from_file(Path(text), trust_pickle)
        )
    if weights is not None:
        if source.module is None or source.script is not None:
            raise UsageError("SC045", f"{model} has its weights inside: --weights goes with package.module:factory")
        pickled.load_weights(source.module, Path(weights))
        source.digest = digest_of(Path(weights))
    if not whole and source.parts is None and source.module is not None and source.script is None:
        source.parts = parts_of(source.module, Path(str(model)) if isinstance(model, (str, Path)) else None)
    return source


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_file(path: Path, trust_pickle: bool) -> Source:
    if directory.is_directory(path):
        return Source(path.resolve().name, module=directory.opened(path), digest=directory.digest(path))
    kind, detail = recognise(path)
    if kind is Kind.ARCHIVE:
        program, about = archive.read(path)
        return Source(path.stem, program=program, about=about, digest=digest_of(path))
    if kind is Kind.SCRIPT:
        script, unit = script_file.load(path, trust_pickle)
        return Source(path.stem, script_module.root(script, unit), script, digest=digest_of(path))
    if kind is Kind.PICKLE:
        return Source(path.stem, module=pickled.load_module(path, trust_pickle), digest=digest_of(path))
    raise CaptureError("SC401", f"{path} is not a PyTorch model: {detail}")


def _from_script(model: torch.jit.ScriptModule) -> Source:
    """A script in memory, as the file that it would be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        model.save(str(path))
        script, unit = script_file.load(path, True)
    return Source(model.original_name, script_module.root(script, unit), script)


def _from_factory(module_name: str, attribute: str) -> Source:
    where = f"{module_name}:{attribute}"
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
        made = found if isinstance(found, torch.nn.Module) else found()
        if isinstance(made, torch.jit.ScriptModule):
            return _from_script(made)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name)
        hints = ["run speechc where the package can be imported"] if missing else []
        raise CaptureError("SC406", f"{where} does not work: {type(error).__name__}: {error}", hints=hints) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if isinstance(made, ExportedProgram):
        return Source(attribute, program=made)
    if isinstance(made, Parts):
        return Source(attribute, parts=made)
    if not isinstance(made, torch.nn.Module):
        raise CaptureError("SC406", f"{where} gave {type(made).__name__}, not an nn.Module")
    return Source(attribute, module=made)

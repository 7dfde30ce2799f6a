"""Opening a TorchScript file without running anything that it holds.

Its pickles are read by torch's own C++ reader, which knows tensors, containers of numbers and the archive's own
classes, and refuses every other name: no Python runs. Two things could still act while a file is only being read: a
`__setstate__` method, which TorchScript runs on loading, and torch's built-in C++ classes, which rebuild themselves
from what they find. Files with either are refused unless the caller trusts them. Operators that touch files are
refused in every method before the first one runs.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from ...ir.errors import CaptureError

_SETSTATE = re.compile(rb"\b__setstate__\b")
_CLASSES = ("__torch__.torch.classes",)
_NAMESPACES = {"aten", "prim"}
_TOUCH_FILES = {"aten::from_file", "aten::save", "aten::load", "aten::_load_from_file"}


def load(path: Path, trusted: bool) -> tuple[torch.jit.ScriptModule, torch._C.CompilationUnit]:
    """The script module of a file, in evaluation mode, and the unit that holds its free functions.

    Raises `CaptureError`: SC402 for a damaged file, SC403 for one that runs code of its own when it is read (unless
    `trusted`) or that touches files, SC433 for one with objects that are neither modules nor tensors.
    """
    try:
        with zipfile.ZipFile(path) as file:
            acts = _acts_on_reading(file)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from None
    if acts and not trusted:
        raise CaptureError(
            "SC403",
            f"{path} is refused: {acts}; reading it runs code of its own",
            hints=["--trust-pickle if you know where the file comes from", "save the model without such objects"],
        )
    unit = torch._C.CompilationUnit()
    try:
        loaded = torch._C.import_ir_module(unit, str(path), torch.device("cpu"), {}, False)
        module = torch.jit._recursive.wrap_cpp_module(loaded)
    except Exception as error:
        raise _damaged(path, error) from None
    module.eval()
    _check_operators(path, module, unit)
    return module, unit


def _damaged(path: Path, error: Exception) -> CaptureError:
    lines = str(error).strip().splitlines()
    return CaptureError(
        "SC402",
        f"{path} is damaged, or written by another version of torch (this is {torch.__version__}): "
        f"{type(error).__name__}: {lines[0][:300] if lines else ''}",
        hints=["save the model again with torch.jit.save"],
    )


def _acts_on_reading(file: zipfile.ZipFile) -> str:
    """What in the archive would act while it is read; empty if nothing would."""
    for name in file.namelist():
        inner = name.partition("/")[2] or name
        if inner.startswith("code/") and inner.endswith(".py") and _SETSTATE.search(file.read(name)):
            return f"{inner} has a __setstate__ method"
        if inner.endswith(".pkl"):
            found = [n for n in _names(file.read(name)) if n.startswith(_CLASSES)]
            if found:
                return f"{inner} holds {found[0].replace(' ', '.')}, a class built into torch"
    return ""


def _names(data: bytes) -> Iterator[str]:
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL") or isinstance(argument, str):
            yield str(argument)


def _check_operators(path: Path, module: torch.jit.ScriptModule, unit: torch._C.CompilationUnit) -> None:
    """Refuse operators that touch files, or that are not torch's own, in any method or function of the file."""
    seen: set[str] = set()
    graphs = [m._c._get_method(n).graph for m in module.modules() for n in m._c._method_names()]
    while graphs:
        graph = graphs.pop()
        for node in nodes_of(graph):
            kind = node.kind()
            if kind.partition("::")[0] not in _NAMESPACES:
                raise CaptureError(
                    "SC420",
                    f"{path} calls {kind}, an operator of another library",
                    hints=["write the module with torch's own operators"],
                )
            if kind.partition(".")[0] in _TOUCH_FILES:
                raise CaptureError("SC403", f"{path} is refused: it calls {kind}, which touches files")
            name = function_name(node)
            if name and name not in seen:
                seen.add(name)
                graphs.append(unit.find_function(name).graph)


def nodes_of(block) -> Iterator[torch._C.Node]:
    """Every node of a graph or block, inner blocks included."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from nodes_of(inner)


def function_name(node: torch._C.Node) -> str:
    """The full name of the free function that a constant stands for; empty for other nodes."""
    if node.kind() == "prim::Constant" and node.outputsSize() and node.output().type().kind() == "FunctionType":
        return node.output().type().annotation_str
    return ""

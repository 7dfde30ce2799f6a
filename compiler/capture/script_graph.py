"""TorchScript graphs as plain steps: what runs, on which values, and where in the user's code it stands."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from types import FunctionType
from typing import Any

import torch

from ...ir.errors import CaptureError
from .script_file import function_name

_SCRIPTED = re.compile(r'File "([^"]+)", line (\d+)')
_TRACED = re.compile(r"^(.+)\((\d+)\): \w+$", re.M)
_TORCH = re.compile(r"[/\\]torch[/\\]")


@dataclass
class Step:
    """One node: `call(module, function, args)` runs a function as if it stood in the user's own file and line."""

    kind: str
    schema: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    blocks: tuple[Block, ...]
    call: Callable
    name: str = ""  # of the attribute, method or function
    value: Any = None  # of a constant


@dataclass
class Block:
    """Steps from named inputs to named outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    steps: list[Step] = field(default_factory=list)


def block_of(graph, function: str, before: tuple[str, int] = ("", 0)) -> Block:
    """The steps of a graph (or of a node's block), whose code belongs to `function`.

    Nodes without a place of their own (a call of a function has none) stand where the node before them does.
    """
    block = Block(tuple(v.debugName() for v in graph.inputs()), tuple(v.debugName() for v in graph.outputs()))
    for node in graph.nodes():
        before = _place(node.sourceRange()) or before
        block.steps.append(_step(node, function, before))
    return block


def _step(node: torch._C.Node, function: str, place: tuple[str, int]) -> Step:
    kind = node.kind()
    if kind in _OBJECTS:
        raise CaptureError(
            "SC433",
            f"the script makes or uses objects of its own ({kind}), which are neither modules nor tensors",
            where=["{}:{}".format(*place)] if place[0] else [],
            hints=["write that part with tensors, numbers, lists and modules"],
        )
    named = kind in ("prim::GetAttr", "prim::SetAttr", "prim::CallMethod")
    constant = kind == "prim::Constant"
    name = node.s("name") if named else function_name(node)
    return Step(
        kind,
        node.schema() if kind.startswith("aten::") else "",
        tuple(v.debugName() for v in node.inputs()),
        tuple(v.debugName() for v in node.outputs()),
        tuple(block_of(b, function, place) for b in node.blocks()),
        _at(*place, function),
        name,
        node.output().toIValue() if constant and not name and node.hasAttribute("value") else None,
    )


_OBJECTS = {"prim::CreateObject", "prim::Enter", "prim::Exit", "prim::fork", "aten::wait", "prim::PythonOp"}


@lru_cache(maxsize=65536)
def _place(text: str) -> tuple[str, int] | None:
    """File and line of a node as the archive remembers them; None where it does not (its own code has other lines)."""
    text = text.partition("Serialized ")[0]
    found = _SCRIPTED.search(text)
    if found:
        file, line = found[1], int(found[2])
        lines = text[found.end() :].splitlines()
        at = next((i for i, t in enumerate(lines) if "<--- HERE" in t), 0)
        if at > 0:
            _remember(file, line, lines[at - 1].strip())
        return file, line
    frames = _TRACED.findall(text)  # innermost first
    own = [f for f in frames if not _TORCH.search(f[0])]
    return next(((f, int(n)) for f, n in own or frames), None)


def _remember(file: str, line: int, code: str) -> None:
    """Let messages quote a line of a file that is not on this machine."""
    if code and not linecache.getline(file, line).strip():
        known = linecache.cache.get(file)
        source = list(known[2]) if known else []
        source += ["\n"] * (line - len(source))
        source[line - 1] = code + "\n"
        linecache.cache[file] = (sum(map(len, source)), None, source, file)


@lru_cache(maxsize=65536)
def _at(file: str, line: int, function: str) -> Callable:
    """A call with a frame of that file and line: tracebacks, and torch's own notes of places, read it."""
    if not file:
        return _CALL
    code = _CALL.__code__.replace(co_filename=file, co_firstlineno=line, co_name=function, co_qualname=function)
    return FunctionType(code, {})


_CALL = lambda self, function, args: function(*args)

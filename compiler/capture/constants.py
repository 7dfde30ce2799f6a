"""Arguments of forward that are no tensors: a module that takes all the others."""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Mapping
from typing import Any

import torch

from ...ir.errors import UsageError
from .spec import ConstantSpec, parse_input


def split(inputs: Any) -> tuple[Any, dict[str, Any], dict[int, Any]]:
    """The inputs without constants, the constants by name, and those that have only a place."""
    if isinstance(inputs, str):
        inputs = [inputs]
    if isinstance(inputs, Mapping):
        named = {n: x for n, x in inputs.items() if isinstance(x, (bool, int, float))}
        return {n: x for n, x in inputs.items() if n not in named}, named, {}
    if not isinstance(inputs, (list, tuple)):
        return inputs, {}, {}
    named, placed, rest = {}, {}, []
    for i, x in enumerate(inputs):
        spec = parse_input(x) if isinstance(x, str) else x
        if isinstance(spec, ConstantSpec):
            named[spec.name] = spec.value
        elif isinstance(x, (bool, int, float)):
            placed[i] = x
        else:
            rest.append(x)
    return rest, named, placed


def bind(module: torch.nn.Module, constants: Mapping[str, Any]) -> torch.nn.Module:
    """The module (its parameters and submodules are the same ones) with some arguments given.

    Raises `UsageError` SC044 for an argument that forward does not have.
    """
    if not constants:
        return module
    given = dict(constants)
    bound, inner = copy.copy(module), type(module).forward
    parameters = inspect.signature(inner).parameters
    unknown = [n for n in given if n not in parameters]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise UsageError("SC044", f"forward takes {', '.join(list(parameters)[1:])}; given: {', '.join(given)}")

    def forward(self, *args, **kwargs):
        return inner(self, *args, **kwargs, **given)

    left = [p for n, p in parameters.items() if n not in given]
    passed = list(parameters)[: len(left)] == [p.name for p in left]  # the constants come last
    kind = inspect.Parameter
    if not passed:
        left = [p if i == 0 or p.kind != kind.POSITIONAL_OR_KEYWORD else p.replace(kind=kind.KEYWORD_ONLY)
                for i, p in enumerate(left)]  # fmt: skip
    forward.__signature__ = inspect.Signature(left)
    bound.forward = types.MethodType(forward, bound)
    return bound

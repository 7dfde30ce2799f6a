"""A TorchScript module as `nn.Module`s that run its graphs step by step in Python, so that torch.export can follow.

The tree has the script's own module paths, class names, parameters and buffers. Control flow on numbers, sizes and
options is decided by running it; calls of submodules go through `nn.Module.__call__`, so that every operator knows its
module. What forward leaves in attributes is kept by `script_state`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ...ir.errors import CaptureError
from . import script_ops
from .script_graph import Block, Step, block_of


class Code:
    """The graphs of an archive, each turned into steps once."""

    def __init__(self, unit: torch._C.CompilationUnit):
        self.unit = unit
        self.blocks: dict[tuple[str, str], Block] = {}
        self.parameters: dict[tuple, tuple[Scripted, str]] = {}  # by place in memory: module and name

    def method(self, script: torch.jit.ScriptModule, name: str) -> Block:
        key = (script._c._type().annotation_str, name)
        if key not in self.blocks:
            self.blocks[key] = block_of(script._c._get_method(name).graph, name)
        return self.blocks[key]

    def function(self, name: str) -> Block:
        if ("", name) not in self.blocks:
            self.blocks["", name] = block_of(self.unit.find_function(name).graph, name.rpartition(".")[2])
        return self.blocks["", name]


class Scripted(torch.nn.Module):
    """One module of a script. `values` holds what forward reads or sets that is no parameter, buffer or module."""

    def __init__(self, script: torch.jit.ScriptModule, code: Code):
        super().__init__()
        # Hidden in a tuple: torch must not take the script for a submodule.
        self.hidden = (script, code)
        self.values: dict[str, Any] = {}
        self.carried: set[str] = set()  # read in this call before they were set
        self.changed: set[str] = set()  # set in any call
        self.written: set[str] = set()  # set in this call
        self.first_assigned: dict[str, list] = {}  # what the first call put where
        self.calls = 0
        self.method = "forward"
        for name, tensor in script.named_parameters(recurse=False):
            self._parameters[name] = torch.nn.Parameter(tensor.detach(), requires_grad=False)
            if tensor.numel():
                code.parameters[_memory(tensor)] = (self, name)
        for name, tensor in script.named_buffers(recurse=False):
            self._buffers[name] = tensor
        for name, child in script.named_children():
            self._modules[name] = scripted(child, code)
        self.training = False

    def forward(self, *args):
        method, self.method = self.method, "forward"
        script, code = self.hidden
        return _run(self, code.method(script, method), [self, *args])

    def restart(self) -> None:
        """Be as a module that was never called."""
        self.calls = 0
        for noted in (self.values, self.carried, self.changed, self.written, self.first_assigned):
            noted.clear()

    def start_call(self) -> None:
        """Forget which attributes were read and set."""
        self.calls += 1
        self.carried.clear()
        self.written.clear()

    def filed(self, name: str) -> Any:
        """The attribute as the file has it."""
        value = self.hidden[0]._c.getattr(name)
        if isinstance(value, torch.ScriptObject):
            raise CaptureError("SC433", f"the script holds an object that is neither module nor tensor: {name}")
        return map_tensors(lambda x: self.known(x, torch.clone), value)

    def known(self, tensor: torch.Tensor, otherwise: Callable = lambda x: x) -> torch.Tensor:
        """The parameter that a tensor of the file is (an LSTM has a list of its own)."""
        owner, name = self.hidden[1].parameters.get(_memory(tensor), (None, ""))
        return otherwise(tensor) if owner is None else owner._parameters[name]

    def read(self, name: str) -> Any:
        """The attribute `name`."""
        if name in self.__dict__["_modules"] or name in self._parameters:
            return type(self).__getattr__(self, name)
        if name not in self.written:
            self.carried.add(name)
        if name in self.values:
            return self.values[name]
        if name in self._buffers:
            return type(self).__getattr__(self, name)
        self.values[name] = self.filed(name)
        return self.values[name]

    def assign(self, name: str, value: Any) -> None:
        self.values[name] = value
        self.written.add(name)
        self.changed.add(name)
        if self.calls == 1:
            self.first_assigned.setdefault(name, []).append(map_tensors(torch.clone, value))


def _memory(tensor: torch.Tensor) -> tuple:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def map_tensors(function: Callable, value: Any) -> Any:
    """A copy of a value of numbers, containers and tensors, with `function` of each tensor."""
    return pytree.tree_map(lambda x: function(x) if isinstance(x, torch.Tensor) else x, value)


class Root(Scripted):
    """The outermost module. `before` and `after` run around every forward; `signature` is the script's."""

    before: Callable[[], None] = staticmethod(lambda: None)
    after: Callable[[], None] = staticmethod(lambda: None)

    def forward(self, *args, **kwargs):
        if self.method != "forward":
            return super().forward(*args)
        self.before()
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        result = super().forward(*bound.arguments.values())
        self.after()
        return result


def scripted(script: torch.jit.ScriptModule, code: Code, base: type = Scripted) -> Scripted:
    """The module tree of a script, its classes named as in the script."""
    made = type(script.original_name, (base,), {"__module__": "script"})
    return made(script, code)


def root(script: torch.jit.ScriptModule, unit: torch._C.CompilationUnit) -> Root:
    """The tree with the script's signature on its forward."""
    kind = inspect.Parameter
    parameters = []
    for a in script._c._get_method("forward").schema.arguments[1:]:
        default = a.default_value if a.has_default_value() else kind.empty
        parameters.append(kind(a.name, kind.POSITIONAL_OR_KEYWORD, default=default, annotation=str(a.type)))
    module = scripted(script, Code(unit), Root)
    module.signature = inspect.Signature(parameters)

    def forward(self, *args, **kwargs):
        return Root.forward(self, *args, **kwargs)

    forward.__signature__ = inspect.Signature([kind("self", kind.POSITIONAL_ONLY), *parameters])
    type(module).forward = forward
    return module


def _run(module: Scripted, block: Block, args: list) -> Any:
    """The result of a method or function on its arguments."""
    results = _block(module, block, args, {})
    return results[0] if len(results) == 1 else tuple(results)


def _block(module: Scripted, block: Block, args: list, env: dict[str, Any]) -> list:
    env.update(zip(block.inputs, args, strict=True))
    for step in block.steps:
        values = [env[n] for n in step.inputs]
        handle = _STEPS.get(step.kind)
        results = (handle or _operator)(module, step, values, env)
        env.update(zip(step.outputs, results))
    return [env[n] for n in block.outputs]


def _operator(module: Scripted, step: Step, values: list, env) -> list:
    result = step.call(module, script_ops.call, [step.kind, step.schema, values])
    return [result] if len(step.outputs) == 1 else list(result or ())


def _constant(module, step: Step, values, env) -> list:
    return [step.name or step.value]


def _get(module, step: Step, values, env) -> list:
    return [values[0].read(step.name)]


def _set(module, step: Step, values, env) -> list:
    values[0].assign(step.name, values[1])
    return []


def _method(module, step: Step, values, env) -> list:
    target = values[0]
    if target is module:
        script, code = module.hidden
        return [step.call(module, _run, [module, code.method(script, step.name), values])]
    target.method = step.name
    return [step.call(module, target, values[1:])]


def _function(module, step: Step, values, env) -> list:
    return [step.call(module, _run, [module, module.hidden[1].function(values[0]), values[1:]])]


def _if(module, step: Step, values, env) -> list:
    chosen = step.blocks[0] if step.call(module, bool, [values[0]]) else step.blocks[1]
    return _block(module, chosen, [], env)


def _loop(module, step: Step, values, env) -> list:
    most, going, *carried = values
    most = step.call(module, int, [most])
    index = 0
    while index < most and step.call(module, bool, [going]):
        going, *carried = _block(module, step.blocks[0], [index, *carried], env)
        index += 1
    return carried


def _raise(module, step: Step, values, env) -> list:
    def fail():
        raise RuntimeError(str(values[0]))

    step.call(module, fail, [])
    return []


def _unpack(module, step: Step, values, env) -> list:
    return list(values[0])


_STEPS: dict[str, Callable] = {
    "prim::Constant": _constant, "prim::GetAttr": _get, "prim::SetAttr": _set, "prim::CallMethod": _method,
    "prim::CallFunction": _function, "prim::If": _if, "prim::Loop": _loop, "prim::RaiseException": _raise,
    "prim::TupleUnpack": _unpack, "prim::ListUnpack": _unpack,
}  # fmt: skip

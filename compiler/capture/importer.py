"""From an exported program to an IR module: inputs, weights, states, then one node after the other."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymIntArgument

from ...ir.errors import CaptureError, SpeechcError
from ...ir.expr import Size, evaluate
from ...ir.graph import Builder, Graph, Loc, Module, Value
from ...ir.types import Tensor
from . import aten as _families  # noqa: F401  fills the table
from .location import location
from .ports import Ports, output_names
from .sizes import size_of
from .table import COMPLEX, COMPLEX_PART, PARTS, TABLE, Complex, Context, ir_dtype

_IGNORED = {
    "aten._assert_scalar.default", "aten._assert_tensor_metadata.default", "aten._assert_async.msg",
    "aten._assert_async.default", "aten.sym_constrain_range_for_size.default", "aten.sym_constrain_range.default",
    "aten.sym_size.int", "aten.sym_numel.default", "aten.sym_stride.int",
}  # fmt: skip
_INLINED = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}  # operator -> position of its subgraph


@dataclass
class Used:
    """One operator as a module uses it."""

    operator: str
    path: str
    known: bool
    loc: Loc = field(compare=False, hash=False, default=Loc(""))


def import_program(program, ports: Ports, meta: Mapping[str, Any] | None = None) -> Module:
    """The module (graph `main`) of an exported program after `run_decompositions({})`.

    `ports` names the sizes and says which are time. Raises `CaptureError`: SC420 lists every operator that is not
    known, SC421 names a form of one that is not; SC440 is a weight that is not a number.
    """
    check_operators(program)
    module = Module(meta=dict(meta or {}))
    _Importer(program, ports, module.graph("main")).run()
    return module


def used_operators(program) -> list[Used]:
    """Every operator of a program with the module that uses it, in order of first use."""
    seen: dict[tuple, Used] = {}
    for node, prefix in _calls(program.graph_module):
        name = operator_name(node)
        loc = location(node, prefix)
        seen.setdefault((name, loc.path), Used(name, loc.path, _known(node, name), loc))
    return list(seen.values())


def check_operators(program) -> None:
    """Raise `CaptureError` SC420 with all operators that capture does not know, by module."""
    unknown = [u for u in used_operators(program) if not u.known]
    if unknown:
        names = sorted({u.operator for u in unknown})
        raise CaptureError(
            "SC420",
            f"{len(names)} operator{'s are' * (len(names) > 1) or ' is'} not supported: {', '.join(names)}",
            where=[f"{u.loc}: {u.operator}" for u in unknown],
            hints=["write the module with other operators", "speechc ops --used MODEL lists all that the model needs"],
        )


def operator_name(node: torch.fx.Node) -> str:
    """`aten.conv1d.default`, or the plain name of a Python or higher-order operator."""
    target = node.target
    return str(target) if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", str(target))


def _calls(graph_module, prefix: str = "") -> Iterator[tuple[torch.fx.Node, str]]:
    """The nodes that compute tensors, those of inlined subgraphs included."""
    for node in graph_module.graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem or _symbolic(node):
            continue
        name = operator_name(node)
        if name in _IGNORED:
            continue
        if name in _INLINED:
            sub = node.args[_INLINED[name]]
            yield from _calls(getattr(graph_module, sub.target), location(node, prefix).path)
        else:
            yield node, prefix


def _symbolic(node: torch.fx.Node) -> bool:
    """Whether a node computes a size or a condition on sizes, which its type already says."""
    return isinstance(node.meta.get("val"), (torch.SymInt, torch.SymBool, int, bool)) and not isinstance(
        node.target, torch._ops.HigherOrderOperator
    )


def _is_complex(value) -> bool:
    values = value if isinstance(value, (tuple, list)) else [value]
    return any(isinstance(v, torch.Tensor) and v.dtype in COMPLEX_PART for v in values)


def _needs_complex(node: torch.fx.Node) -> bool:
    return _is_complex(node.meta.get("val")) or any(_is_complex(n.meta.get("val")) for n in node.all_input_nodes)


def _known(node: torch.fx.Node, name: str) -> bool:
    if isinstance(node.meta.get("val"), (torch.SymFloat, float)):
        return name in _FLOATS
    if _needs_complex(node) or (name in COMPLEX and name not in TABLE):
        return name in COMPLEX or name in PARTS
    return name in TABLE


class _Importer:
    def __init__(self, program, ports: Ports, graph: Graph):
        self.program, self.ports, self.graph = program, ports, graph
        self.builder = Builder(graph)
        self.hints = ports.hints
        self.context = Context(self.builder, self.size, lambda s: evaluate(s, self.hints), ports.limits)
        self.sizes: dict[Any, Size] = {}
        self.arrays: dict[tuple, Value] = {}

    def size(self, s) -> Size:
        """A size of the IR for one of torch's."""
        if isinstance(s, int):
            return s
        expr = s.node.expr if hasattr(s, "node") else s
        if expr not in self.sizes:
            self.sizes[expr] = size_of(expr, self.ports.symbols)
        return self.sizes[expr]

    def run(self) -> None:
        signature = self.program.graph_signature
        placeholders = [n for n in self.program.graph.nodes if n.op == "placeholder"]
        mutated = set(signature.buffers_to_mutate.values())
        env: dict[torch.fx.Node, Any] = {}
        states: dict[str, Value] = {}
        for node, spec in zip(placeholders, signature.input_specs, strict=True):
            if spec.kind == InputKind.USER_INPUT:
                env[node] = self.input(node, spec)
            elif not node.users and spec.target not in mutated:
                continue
            elif spec.target in mutated:
                states[spec.target], env[node] = self.state(spec)
            else:
                env[node] = self.constant(spec)
        results = self.body(self.program.graph_module, env, "")
        named = iter(output_names(self.program))
        for value, spec in zip(results, signature.output_specs, strict=True):
            if spec.kind == OutputKind.USER_OUTPUT:
                self.output(value, spec, next(named))
            elif spec.kind == OutputKind.BUFFER_MUTATION:
                with self.builder.at(Loc(spec.target.rpartition(".")[0] or "(model)")):
                    self.builder.write(states[spec.target], value)
        self.graph.sweep()

    # -- what the program starts from and ends in -------------------------------------------------------------------
    def input(self, node: torch.fx.Node, spec) -> Any:
        if isinstance(spec.arg, ConstantArgument):
            return spec.arg.value
        if isinstance(spec.arg, SymIntArgument):
            raise CaptureError("SC432", f"input {spec.arg.name} is a number that varies", hints=["pass a tensor"])
        meta = node.meta["val"]
        if _is_complex(meta):
            raise CaptureError("SC432", f"input {spec.arg.name} is complex", hints=["pass real and imaginary part"])
        shape = self.ports.shape(spec.arg.name, [self.size(s) for s in meta.shape])
        return self.graph.input(spec.arg.name, Tensor(ir_dtype(meta.dtype), shape))

    def tensor(self, spec) -> torch.Tensor:
        """The parameter, buffer or constant that a placeholder stands for."""
        program = self.program
        if spec.kind == InputKind.CUSTOM_OBJ:
            raise CaptureError("SC433", f"the model holds an object that is not a tensor: {spec.target}")
        if spec.kind == InputKind.CONSTANT_TENSOR or (spec.kind == InputKind.BUFFER and not spec.persistent):
            return program.constants[spec.target]
        return program.state_dict[spec.target]

    def constant(self, spec) -> Value | Complex:
        tensor = self.tensor(spec).detach()
        if tensor.dtype in COMPLEX_PART:
            parts = torch.view_as_real(tensor.resolve_conj())
            names = (f"{spec.target}.real", f"{spec.target}.imag")
            return Complex(*(self.graph.weight(n, parts[..., i].numpy()) for i, n in enumerate(names)))
        ir_dtype(tensor.dtype)
        array = tensor.numpy()
        check_numbers(spec.target, array, spec.kind == InputKind.PARAMETER)
        if spec.kind == InputKind.CONSTANT_TENSOR and array.ndim == 0:
            return self.graph.const(array.item(), ir_dtype(tensor.dtype))
        key = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype) if array.size else spec
        if key not in self.arrays:  # tied weights are one
            self.arrays[key] = self.graph.weight(spec.target, array)
        return self.arrays[key]

    def state(self, spec) -> tuple[Value, Value]:
        """A buffer that the model changes: its state, and its value at the start of the call."""
        array = self.tensor(spec).detach().numpy()
        check_numbers(spec.target, array, False)
        zero = not array.any()
        start = 0 if zero else self.graph.weights.add(spec.target, array)
        state = self.graph.state(spec.target, Tensor(ir_dtype(self.tensor(spec).dtype), array.shape), start)
        with self.builder.at(Loc(spec.target.rpartition(".")[0] or "(model)")):
            return state, self.builder.read(state)

    def output(self, value, spec, name: str) -> None:
        if isinstance(spec.arg, ConstantArgument) and not isinstance(spec.arg.value, (int, float)):
            return
        with self.builder.at(Loc("(model)")):
            if isinstance(value, Complex):
                self.graph.output(value.real, f"{name}.real")
                self.graph.output(value.imag, f"{name}.imag")
            else:
                self.graph.output(self.context.value(value), name)

    # -- the body ----------------------------------------------------------------------------------------------------
    def body(self, graph_module, env: dict[torch.fx.Node, Any], prefix: str) -> list:
        """Import the nodes of a graph; gives what it returns."""
        for node in graph_module.graph.nodes:
            if node.op == "output":
                returned = node.args[0]
                return [
                    self.argument(a, env) for a in (returned if isinstance(returned, (tuple, list)) else [returned])
                ]
            if node.op == "get_attr":
                env[node] = self.attribute(graph_module, node)
            elif node.op == "call_function":
                env[node] = self.call(node, env, graph_module, prefix)
        raise CaptureError("SC499", "the exported graph has no output")

    def attribute(self, graph_module, node: torch.fx.Node):
        found = graph_module
        for part in node.target.split("."):
            found = getattr(found, part)
        return self.graph.weight(node.target, found.detach().numpy()) if isinstance(found, torch.Tensor) else found

    def argument(self, a, env):
        if isinstance(a, torch.fx.Node):
            value = env[a]
            return self.size(value) if isinstance(value, torch.SymInt) else value
        if isinstance(a, (list, tuple)):
            return [self.argument(x, env) for x in a]
        return a

    def call(self, node: torch.fx.Node, env, graph_module, prefix: str):
        if _symbolic(node):
            return node.meta["val"]  # converted where an operator on tensors uses it
        name = operator_name(node)
        if name in _IGNORED:
            return None
        args = [self.argument(a, env) for a in node.args]
        if node.target is operator.getitem:
            return args[0][args[1]]
        loc = location(node, prefix)
        if name in _INLINED:
            return self.inlined(args, _INLINED[name], loc)
        kwargs = {k: self.argument(a, env) for k, a in node.kwargs.items()}
        self.context.node = node
        with self.builder.at(loc):
            try:
                result = self.build(node, name, args, kwargs)
            except SpeechcError as error:
                if not error.where:
                    error.where.append(str(loc))
                raise
        self.check(node, result, loc)
        return result

    def build(self, node: torch.fx.Node, name: str, args: list, kwargs: dict):
        if isinstance(node.meta.get("val"), (torch.SymFloat, float)):
            return _FLOATS[name](self.context, *args)
        if _needs_complex(node) or name not in TABLE:
            if name in COMPLEX:
                return COMPLEX[name](self.context, *args, **kwargs)
            halves = [
                TABLE[name](self.context, *(getattr(a, part) if isinstance(a, Complex) else a for a in args), **kwargs)
                for part in ("real", "imag")
            ]
            if isinstance(halves[0], tuple):
                return tuple(Complex(*pair) for pair in zip(*halves))
            return Complex(*halves)
        return TABLE[name](self.context, *args, **kwargs)

    def inlined(self, args: list, at: int, loc: Loc) -> tuple:
        """A subgraph that only sets a mode (gradients, autocast) becomes part of the graph around it."""
        sub, inputs = args[at], args[at + 1 :]
        inner = [n for n in sub.graph.nodes if n.op == "placeholder"]
        return tuple(self.body(sub, dict(zip(inner, inputs)), loc.path))

    def check(self, node: torch.fx.Node, result, loc: Loc) -> None:
        """The type built must be the type that torch inferred (sizes compared at the traced lengths)."""
        metas = node.meta.get("val")
        pairs = zip(result, metas) if isinstance(result, tuple) else [(result, metas)]
        for value, meta in pairs:
            value = value.real if isinstance(value, Complex) else value
            if not isinstance(value, Value) or not isinstance(meta, torch.Tensor):
                continue
            want = tuple(evaluate(self.size(s), self.hints) for s in meta.shape)
            have = tuple(evaluate(s, self.hints) for s in value.type.sizes)
            if want != have or value.type.dtype != ir_dtype(meta.dtype):
                raise CaptureError(
                    "SC499",
                    f"{node.target} gave {value.type}, torch says {meta.dtype}{list(meta.shape)}",
                    where=[str(loc)],
                    hints=["this is a fault of speechc: please report it with the model"],
                )


def check_numbers(name: str, array: np.ndarray, parameter: bool) -> None:
    """Refuse NaN; infinities too in parameters (in buffers they are masks)."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    if parameter or np.isnan(array).any():
        what = "NaN" if np.isnan(array).any() else "infinity"
        raise CaptureError(
            "SC440", f"weight {name} holds {what}", hints=["the model did not train, or its file is damaged"]
        )


def _float_op(kind: str):
    def build(c: Context, *args):
        return c.b.emit(kind, tuple(c.value(a, "f32") for a in args))

    return build


# Floating-point numbers computed from lengths, such as 1 / T: scalars of the graph.
_FLOATS = {
    "truediv": _float_op("div"),
    "mul": _float_op("mul"),
    "add": _float_op("add"),
    "sub": _float_op("sub"),
    "neg": _float_op("neg"),
    "pow": _float_op("pow"),
    "aten.item.default": lambda c, x: c.reshape(c.cast(x, "f32"), ()),
    "aten._local_scalar_dense.default": lambda c, x: c.reshape(c.cast(x, "f32"), ()),
    "sym_float": lambda c, x: c.value(x, "f32"),
    "_sym_sqrt": _float_op("sqrt"),
    "sym_sqrt": _float_op("sqrt"),
    "sym_max": _float_op("maximum"),
    "sym_min": _float_op("minimum"),
}

"""Runs a saved Core ML package in numpy, anywhere: what it declares is enforced, what it says is computed.

The program and its weights come from the file alone (`mil_file`), so what is run is what a device would load, and no
mistake in writing it can hide. Three things hold at every op: the op and its parameters exist in the op set that the
file names; the result has the element type that the op gives for its operands, and that type and the sizes are the ones
declared; float16 operands are widened, the op is computed in float32 (sums included, as Apple's hardware accumulates)
and its result is rounded to float16. Devices may fuse ops and keep more bits between them, or fewer inside one (a GPU
may sum in float16), so float16 agrees with Core ML to within rounding and not to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...ir.errors import NumericalError, UnsupportedError, UsageError
from . import (  # noqa: F401  these fill the table
    mil_elementwise,
    mil_index,
    mil_linear,
    mil_list,
    mil_norm,
    mil_pool,
    mil_recurrent,
    mil_resize,
    mil_shape,
    mil_weights,
)
from .mil_file import TYPES, Block, Name, Operation, Package, Port, Type, read, refuse, walk
from .mil_table import TABLE, Meaning, Refused, meaning_of

INTERFACE = {
    "fp32": 15,
    "fp16": 16,
    "int32": 15,
    "int8": 26,
}  # of inputs and outputs, by the op set they came with
SMALL = {"int8", "uint8", "int16", "uint16"}  # tensors that only op sets from iOS 17 on compute with
DEFAULT_TYPES = {bool: np.dtype(bool), int: np.dtype(np.int32), float: np.dtype(np.float32)}  # of a parameter left out
RANK = 5  # the most dimensions that Core ML takes


@dataclass(frozen=True)
class State:
    """What a state's name stands for while a program runs."""

    array: np.ndarray


class Program:
    """A loaded package. `inputs`, `outputs` and `states` give (numpy type, shape), None where a size may vary."""

    def __init__(self, package: Package):
        self.package = package
        self.inputs = {n: (np.dtype(TYPES[p.dtype][1]), p.shape) for n, p in _checked(package, "inputs")}
        self.outputs = {n: self._output(n, p) for n, p in _checked(package, "outputs")}
        self.states = {n: (np.dtype(TYPES[p.dtype][1]), p.shape) for n, p in _checked(package, "states")}
        self._meanings: dict[int, Meaning] = {}
        self._find_meanings()
        self._constants: dict[str, object] = {}
        self._wide: dict[str, np.ndarray] = {}
        self._fold(package.block)

    @classmethod
    def load(cls, path: Path) -> Program:
        """Open a .mlpackage.

        Raises `UsageError` SC010 (no such package) and `UnsupportedError`: SC330 (ops that are not in the table, all of
        them), SC331 (something that the format does not allow, or a damaged file).
        """
        return cls(read(Path(path)))

    @property
    def ops(self) -> list[str]:
        """Kinds of the ops in the order of the file, constants left out."""
        return [op.kind for op in walk(self.package.block) if op.kind != "const"]

    def make_state(self) -> dict[str, np.ndarray]:
        """States as a program finds them at first: zeros."""
        return {n: np.zeros(shape, dtype) for n, (dtype, shape) in self.states.items()}

    def run(
        self, feeds: Mapping[str, np.ndarray], states: dict[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Outputs by name. The arrays in `states` are changed in place; without any, states start at zero.

        Raises `UsageError` SC110 to SC112 for inputs that the package does not take, `NumericalError` SC514 where an op
        gives something else than the package declares or cannot be computed.
        """
        env: dict[str, object] = {}
        for name, port in self.package.inputs.items():
            if name not in feeds:
                raise UsageError("SC110", f"input {name} is missing")
            env[name] = _accepted(name, np.asarray(feeds[name]), port)
        if unknown := sorted(set(feeds) - set(env)):
            raise UsageError("SC110", f"there is no input {', '.join(unknown)}; there are {', '.join(env)}")
        states = self.make_state() if states is None else states
        if set(states) != set(self.states):
            raise UsageError("SC110", f"the states are {', '.join(self.states) or 'none'}, not {', '.join(states)}")
        for name, (dtype, shape) in self.states.items():
            if states[name].dtype != dtype or states[name].shape != shape:
                raise UsageError("SC111", f"state {name} is {dtype}{list(shape)}, not of the given type or shape")
            env[name] = State(states[name])
        results = self._block(self.package.block, env)
        return {n: np.array(v) for n, v in zip(self.package.block.outputs, results)}

    # Loading

    def _output(self, name: str, port: Port) -> tuple[np.dtype, tuple[int | None, ...]]:
        """An output's sizes are those that the program declares; the interface need not repeat them."""
        declared = next((t for op in walk(self.package.block) for n, t in op.outputs if n == name), None)
        declared = declared or self.package.parameters.get(name)
        if declared is None or name not in self.package.block.outputs:
            raise refuse(f"the program does not return the output {name}", "main")
        if declared.dtype != port.dtype:
            raise refuse(f"output {name} is declared {port.dtype}, the program gives {declared.dtype}", "main")
        return declared.numpy, declared.shape if declared.shape is not None else port.shape

    def _find_meanings(self) -> None:
        opset, unknown = self.package.opset, []
        for op in walk(self.package.block):
            if op.kind in CONTROL or op.kind == "const":
                continue
            meaning = meaning_of(op.kind, opset)
            if meaning is None:
                since = min((m.since for m in TABLE.get(op.kind, ())), default=None)
                unknown.append(f"{op}: " + (f"only from iOS {since} on" if since else "not in the table"))
                continue
            given = (op.inputs | op.attributes).keys() - {"name"}
            extra = [n for n in given if n not in meaning.parameters or meaning.later.get(n, 0) > opset]
            if extra:
                unknown.append(f"{op}: parameter {', '.join(sorted(extra))} in the op set of iOS {opset}")
            required = {n for n, p in meaning.parameters.items() if p.default is p.empty}
            if missing := required - given:
                raise refuse(f"parameter {', '.join(sorted(missing))} is missing", str(op))
            self._check_results(op)
            self._meanings[id(op)] = meaning
        if unknown:
            raise UnsupportedError("SC330", f"the MIL interpreter lacks {len(unknown)} ops of this package", unknown)

    def _check_results(self, op: Operation) -> None:
        if op.kind.startswith("constexpr_"):
            return
        for name, kind in op.outputs:
            if kind.shape is not None and len(kind.shape) > RANK:
                raise refuse(f"{name} is {kind}: Core ML takes {RANK} dimensions at most", str(op))
            if kind.dtype in SMALL and self.package.opset < 17:
                raise refuse(f"{name} is {kind}, which needs the op set of iOS 17", str(op))

    def _fold(self, block: Block) -> None:
        """Evaluate constants, and compressed weights, once."""
        for op in walk(block):
            if op.kind == "const":
                ((name, kind),) = op.outputs
                self._constants[name] = _declared(op, name, op.attributes["val"], kind)
            elif op.kind.startswith("constexpr_"):
                for (name, _), value in zip(op.outputs, self._compute(op, self._constants)):
                    self._constants[name] = value

    # Running

    def _block(self, block: Block, env: dict[str, object]) -> list:
        for op in block.operations:
            if op.kind == "const" or op.kind.startswith("constexpr_"):
                continue
            control = CONTROL.get(op.kind)
            values = control(self, op, env) if control else self._compute(op, env)
            for (name, _), value in zip(op.outputs, values, strict=True):
                env[name] = value
        return [self._value(Name(n), env, block) for n in block.outputs]

    def _value(self, operand: object, env: Mapping[str, object], where: object) -> object:
        if not isinstance(operand, Name):
            return operand
        for values in (env, self._constants):
            if operand.text in values:
                return values[operand.text]
        raise refuse(f"there is no value {operand.text}", str(where))

    def _one(self, op: Operation, env: Mapping[str, object], parameter: str) -> object:
        return self._value(op.inputs[parameter][0], env, op)

    def _compute(self, op: Operation, env: Mapping[str, object]) -> list:
        """Results of one op, checked against what is declared."""
        meaning = self._meanings[id(op)]
        operands: dict[str, object] = {}
        types: dict[str, np.dtype] = {}
        fixed: set[str] = set()
        named: dict[str, str] = {}
        for parameter, given in (*op.inputs.items(), *((n, [v]) for n, v in op.attributes.items() if n != "name")):
            values = [self._value(g, env, op) for g in given]
            if isinstance(values[0], np.ndarray):
                types[parameter] = values[0].dtype
                if parameter in meaning.alike and (other := {v.dtype for v in values} - {values[0].dtype}):
                    raise _failed(op, f"{parameter} are of types {values[0].dtype} and {', '.join(map(str, other))}")
            elif isinstance(values[0], str):
                named[parameter] = values[0]
            if all(not isinstance(g, Name) or g.text in self._constants for g in given):
                fixed.add(parameter)
            if not meaning.moves:
                values = [self._widened(g, v) for g, v in zip(given, values)]
            operands[parameter] = tuple(values) if parameter in meaning.lists else values[0]
        if len(alike := {types[p] for p in meaning.alike if p in types}) > 1:
            raise _failed(op, f"{' and '.join(meaning.alike)} are of types {' and '.join(map(str, alike))}")
        try:
            with np.errstate(all="ignore"):
                results = meaning.run(**operands)
        except (Refused, ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            raise _failed(op, f"{type(error).__name__}: {error}") from error
        results = results if isinstance(results, tuple) else (results,)
        if len(results) != len(op.outputs):
            raise _failed(op, f"it gives {len(results)} results, the package declares {len(op.outputs)}")
        found = []
        for i, ((name, kind), result) in enumerate(zip(op.outputs, results)):
            if kind.kind == "list":
                found.append(result)
                continue
            choices = meaning.gives[min(i, len(meaning.gives) - 1)].split("|")
            rule = next((c for c in choices if c not in fixed), choices[0])
            found.append(_declared(op, name, _rounded(op, name, result, _expected(meaning, rule, types, named)), kind))
        return found

    def _widened(self, operand: object, value: object) -> object:
        if not isinstance(value, np.ndarray) or value.dtype != np.float16:
            return value
        if not isinstance(operand, Name) or operand.text not in self._constants:
            return value.astype(np.float32)
        if operand.text not in self._wide:
            self._wide[operand.text] = value.astype(np.float32)
        return self._wide[operand.text]

    # Control flow and state

    def _while_loop(self, op: Operation, env: dict[str, object]) -> list:
        condition, body = op.blocks
        values = [self._value(v, env, op) for v in op.inputs["loop_vars"]]
        while True:
            (more,) = self._inner(op, condition, values, env)
            if not bool(more):
                return values
            values = self._inner(op, body, values, env)

    def _inner(self, op: Operation, block: Block, values: list, env: dict[str, object]) -> list:
        bound = {}
        for (name, kind), value in zip(block.inputs, values, strict=True):
            bound[name] = _declared(op, name, value, kind) if kind.kind == "tensor" else value
        return self._block(block, {**env, **bound})

    def _cond(self, op: Operation, env: dict[str, object]) -> list:
        chosen = op.blocks[0 if bool(self._one(op, env, "pred")) else 1]
        values = self._block(chosen, dict(env))
        return [_declared(op, n, v, k) for (n, k), v in zip(op.outputs, values, strict=True)]

    def _read_state(self, op: Operation, env: dict[str, object]) -> list:
        ((name, kind),) = op.outputs
        return [_declared(op, name, self._one(op, env, "input").array.copy(), kind)]

    def _write_state(self, op: Operation, env: dict[str, object]) -> list:
        """`write_state(input, data)`; `coreml_update_state(state, value)` also gives the value."""
        state, value = (self._one(op, env, n) for n in (("input", "data") if "data" in op.inputs else STATE_OPERANDS))
        if value.dtype != state.array.dtype or value.shape != state.array.shape:
            raise _failed(op, f"a state of {state.array.dtype}{state.array.shape} is given {value.dtype}{value.shape}")
        state.array[...] = value
        return [value] if op.outputs else []


STATE_OPERANDS = ("state", "value")
CONTROL = {
    "while_loop": Program._while_loop,
    "cond": Program._cond,
    "read_state": Program._read_state,
    "write_state": Program._write_state,
    "coreml_update_state": Program._write_state,
}


def supported(opset: int = 18) -> frozenset[str]:
    """The ops that the interpreter computes in the op set of iOS `opset`."""
    return frozenset({n for n in TABLE if meaning_of(n, opset)} | CONTROL.keys() | {"const"})


def _failed(op: Operation, why: str) -> NumericalError:
    return NumericalError("SC514", f"the MIL op {op.kind} does not do what the package says: {why}", [str(op)])


def _expected(meaning: Meaning, rule: str, types: Mapping[str, np.dtype], named: Mapping[str, str]) -> np.dtype | None:
    """The element type of a result, by the rule of the table; None: any."""
    if rule == "*":
        return None
    if rule.startswith("="):
        return np.dtype(TYPES[rule[1:]][1])
    if rule.startswith("@"):
        text = named.get(rule[1:], meaning.parameters[rule[1:]].default)
        return np.dtype(TYPES[text.lower()][1])
    if rule in types:
        return types[rule]
    return DEFAULT_TYPES[type(meaning.parameters[rule].default)]


def _rounded(op: Operation, name: str, result: object, dtype: np.dtype | None) -> np.ndarray:
    """A computed result in its own element type; a result of another kind is a fault of the meaning or the file."""
    result = np.asarray(result)
    if dtype is None:
        return result
    if result.dtype.kind != dtype.kind and not (result.dtype.kind in "iu" and dtype.kind in "iu"):
        raise _failed(op, f"{name} comes out as {result.dtype}, where its operands make it {dtype}")
    with np.errstate(over="ignore"):  # beyond float16's range is infinity, on a device too
        return result.astype(dtype, copy=False)


def _declared(op: Operation, name: str, value: object, kind: Type) -> object:
    """`value` if it is of the declared type."""
    if not isinstance(value, np.ndarray):
        return value
    fits = kind.shape is None or (
        len(kind.shape) == value.ndim and all(a is None or a == b for a, b in zip(kind.shape, value.shape))
    )
    if value.dtype != kind.numpy or not fits:
        found = f"{value.dtype}[{', '.join(map(str, value.shape))}]"
        raise _failed(op, f"{name} is {found}, the package declares {kind}")
    return value


def _checked(package: Package, which: str) -> list[tuple[str, Port]]:
    """The ports of a package, after the rules of the format for them."""
    found = list(getattr(package, which).items())
    for name, port in found:
        if which == "states":
            if port.dtype != "fp16":
                raise refuse(f"state {name} is {port.dtype}; Core ML keeps states in fp16 only", "main")
            if package.opset < 18:
                raise refuse(f"state {name} needs the op set of iOS 18", "main")
            if None in port.shape:
                raise refuse(f"state {name} has no fixed shape", "main")
        elif port.dtype not in INTERFACE or INTERFACE[port.dtype] > package.opset:
            raise refuse(f"{name} is {port.dtype}, which inputs and outputs cannot be at iOS {package.opset}", "main")
        if which == "outputs":
            continue
        parameter = package.parameters.get(name)
        if parameter is None or parameter.dtype != port.dtype or len(parameter.shape or ()) != len(port.shape):
            raise refuse(f"{name} is declared {port.dtype}{list(port.shape)}, the program takes {parameter}", "main")
        if any(a is not None and a != b for a, b in zip(parameter.shape, port.shape)):
            raise refuse(f"{name} is declared {list(port.shape)}, the program takes {parameter}", "main")
    return found


def _accepted(name: str, array: np.ndarray, port: Port) -> np.ndarray:
    """An input that fits its declaration; flexible sizes in their range or among their choices."""
    if array.dtype != TYPES[port.dtype][1] or array.ndim != len(port.shape):
        raise UsageError("SC111", f"input {name} is {port.dtype}{list(port.shape)}, not {array.dtype}{[*array.shape]}")
    if port.choices and array.shape not in port.choices:
        raise UsageError(
            "SC112", f"input {name} of shape {[*array.shape]} is none of {[list(c) for c in port.choices]}"
        )
    for i, (size, fixed) in enumerate(zip(array.shape, port.shape)):
        least, most = port.ranges[i] if port.ranges else (fixed, fixed)
        if not port.choices and (size < least or (most is not None and size > most)):
            raise UsageError("SC112", f"dimension {i} of input {name} is {size}, outside {least} to {most or 'any'}")
    return array

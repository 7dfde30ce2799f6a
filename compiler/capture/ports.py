"""Names and meanings of a program's inputs and outputs: which sizes vary, what they are called, which are time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sympy
import torch

from ...ir.errors import CaptureError
from ...ir.expr import Expr, Size, evaluate, symbol, symbols
from ...ir.types import Dim, time_input
from .conditions import Lengths, lengths_of, traced_conditions

AUDIO = ("audio", "wav", "waveform", "waveforms")


@dataclass
class Ports:
    """What the importer needs to know about sizes.

    `symbols` maps torch's names to sizes, `hints` sizes' names to their values in the traced run, `limits` to
    [least, most] (None: no bound), `clocks` the name of each size that is time to its clock, `time_axes` inputs to
    the axis that is time.
    """

    symbols: dict[str, Size] = field(default_factory=dict)
    hints: dict[str, int] = field(default_factory=dict)
    limits: dict[str, list[int | None]] = field(default_factory=dict)
    clocks: dict[str, str] = field(default_factory=dict)
    time_axes: dict[str, int] = field(default_factory=dict)

    def shape(self, name: str, sizes: Sequence[Size]) -> list[Dim]:
        """The dimensions of input `name`."""
        axis = self.time_axes.get(name)
        out = []
        for i, s in enumerate(sizes):
            names = symbols(s)
            clock = next((self.clocks[n] for n in names if n in self.clocks), None)
            out.append(time_input(s, clock) if i == axis and clock else Dim(s))
        return out


def user_inputs(program) -> dict[str, torch.fx.Node]:
    """The placeholders of the user's tensors, by name, in order."""
    names = set(program.graph_signature.user_inputs)
    return {
        n.name: n
        for n in program.graph.nodes
        if n.op == "placeholder" and n.name in names and isinstance(n.meta.get("val"), torch.Tensor)
    }


def find_ports(
    program, time_axes: Mapping[str, int] | None, names: Mapping[str, Sequence] | None = None, every: bool = False
) -> Ports:
    """The ports of an exported program.

    `time_axes` gives the time axis by input; where an input is not mentioned (or all is None), its first varying
    dimension is time, the batch dimension only if nothing else varies. `names` gives the user's own names of
    dimensions (from an input's description). `every`: torch's own conditions on lengths count too.
    """
    ports = Ports()
    inputs = user_inputs(program)
    varying = {
        name: [i for i, s in enumerate(node.meta["val"].shape) if isinstance(s, torch.SymInt)]
        for name, node in inputs.items()
    }
    for name, axes in varying.items():
        if time_axes is not None and name in time_axes:
            if time_axes[name] in axes:
                ports.time_axes[name] = time_axes[name]
        elif axes and time_axes is None:
            ports.time_axes[name] = next((a for a in axes if a > 0), axes[0])
    conditions = [c for c in traced_conditions(program) if c.direct or every]
    for timed in (True, False):  # time is named first: T
        for name, node in inputs.items():
            for axis in varying[name]:
                if (ports.time_axes.get(name) == axis) == timed:
                    given = (names or {}).get(name)
                    _name_size(program, ports, conditions, node, axis, name, given[axis] if given else None, timed)
    return ports


def _name_size(program, ports: Ports, conditions, node, axis: int, input_name: str, given, timed: bool) -> None:
    """Give the unknowns of one dimension their names, limits, hint and clock."""
    expr = node.meta["val"].shape[axis].node.expr
    for unknown in sorted(expr.free_symbols, key=str):
        if unknown.name not in ports.symbols and not _tied(program, ports, conditions, node, axis, unknown, given):
            wanted = given if isinstance(given, str) else "T" if timed else "B" if axis == 0 else "S"
            taken = set(ports.limits)
            name, i = wanted, 2
            while name in taken:
                name, i = f"{wanted}{i}", i + 1
            limits = _limits(program, unknown)
            hint = _hint(node.meta["val"].shape[axis], unknown, limits)
            lengths = lengths_of(unknown, hint, limits[1], conditions)
            # Where only every n-th length is possible, the size is an expression: 4*T.
            ports.symbols[unknown.name] = symbol(name) * lengths.step + lengths.offset
            ports.limits[name] = _counted(limits, lengths)
            ports.hints[name] = (hint - lengths.offset) // lengths.step
        if timed:
            (name,) = symbols(ports.symbols[unknown.name])
            ports.clocks.setdefault(name, "audio" if input_name in AUDIO else input_name)


def _tied(program, ports: Ports, conditions, node, axis: int, unknown: sympy.Symbol, given) -> bool:
    """Give an unknown the name of one that is always as long, if there is one: then say so.

    The user gives two sizes one name; or the model wants what follows from one of them to equal what follows from the
    other in the same way, as it does of audio and its mask.
    """
    limits = _limits(program, unknown)
    hint = _hint(node.meta["val"].shape[axis], unknown, limits)
    lengths = lengths_of(unknown, hint, limits[1], conditions)
    for name, size in ports.symbols.items():
        if not isinstance(size, Expr) or symbol(next(iter(symbols(size)))) * lengths.step + lengths.offset != size:
            continue
        (called,) = symbols(size)
        equal = given == called or any(_means_equal(c.expression, unknown, name) for c in conditions)
        if equal and evaluate(size, ports.hints) == hint:
            ports.symbols[unknown.name] = size
            (least, most), (other_least, other_most) = ports.limits[called], _counted(limits, lengths)
            bounds = [m for m in (most, other_most) if m is not None]
            ports.limits[called] = [max(least, other_least), min(bounds, default=None)]
            return True
    return False


def _means_equal(condition: sympy.Basic, unknown: sympy.Symbol, other: str) -> bool:
    """Whether a condition is f(unknown) = f(other)."""
    if not isinstance(condition, sympy.Equality) or len(condition.free_symbols) != 2:
        return False
    (second,) = (s for s in condition.free_symbols if s != unknown) if unknown in condition.free_symbols else (None,)
    if second is None or second.name != other:
        return False
    left, right = (side.xreplace({unknown: second}) for side in condition.args)
    return left == right


def _counted(limits: list[int | None], lengths: Lengths) -> list[int | None]:
    """Limits of a length as limits of n, where the length is step*n + offset."""
    least = max(limits[0] or 1, lengths.least)
    most = limits[1]
    return [
        max(-((lengths.offset - least) // lengths.step), 1 if lengths.offset == 0 else 0),
        None if most is None else (most - lengths.offset) // lengths.step,
    ]


def _hint(size: torch.SymInt, unknown, limits) -> int:
    """A value that the size can have: the one of the traced run where it is known."""
    env = size.node.shape_env
    for table in ("backed_var_to_val", "var_to_val"):
        value = getattr(env, table, {}).get(unknown)
        if value is not None:
            return int(value)
    return max(limits[0] or 1, 97)


def _limits(program, unknown) -> list[int | None]:
    found = program.range_constraints.get(unknown)
    if found is None:
        return [1, None]

    def bound(x) -> int | None:
        return int(x) if getattr(x, "is_Integer", False) and int(x) < 2**40 else None

    return [bound(found.lower), bound(found.upper)]


def output_names(program) -> list[str]:
    """A name for every value that the program returns: the keys of dictionaries and named tuples, else `output`."""
    count = len([s for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"])
    spec = program.call_spec.out_spec
    paths = _leaves(spec) if spec is not None else [()] * count
    if len(paths) != count:
        paths = [(str(i),) for i in range(count)]
    names: list[str] = []
    for path in paths:
        named = any(not p.isdigit() for p in path)
        name = "_".join(path) if named else "_".join(("output", *path))
        name = re.sub(r"\W", "_", name)
        while name in names:
            name += "_"
        names.append(name)
    return names


def _leaves(spec) -> list[tuple[str, ...]]:
    """The path of every leaf of a pytree: dictionary keys, field names, positions."""
    children = spec.children()
    if spec.is_leaf():
        return [()]
    context = spec.context
    fields = getattr(context, "_fields", None)
    keys = list(fields) if fields else list(context) if isinstance(context, (list, tuple)) else None
    if keys is not None and len(keys) == 1 and isinstance(keys[0], (list, tuple)):
        keys = list(keys[0])
    if keys is None or len(keys) != len(children):
        keys = list(range(len(children)))
    return [(str(k), *rest) for k, child in zip(keys, children) for rest in _leaves(child)]


def require_varying(program, wanted: Mapping[str, Sequence[int]]) -> list[tuple[str, int, int]]:
    """The dimensions that should vary and do not: (input, axis, the length they are fixed at)."""
    fixed = []
    inputs = user_inputs(program)
    for name, axes in wanted.items():
        if name not in inputs:
            raise CaptureError("SC434", f"the model has no input {name}", hints=[f"its inputs: {', '.join(inputs)}"])
        for axis in axes:
            size = inputs[name].meta["val"].shape[axis]
            if isinstance(size, int):
                fixed.append((name, axis, size))
                continue
            for unknown in size.node.expr.free_symbols:
                least, most = _limits(program, unknown)
                if least is not None and least == most:
                    fixed.append((name, axis, least))
    return fixed

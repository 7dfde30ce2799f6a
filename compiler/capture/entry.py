"""The whole of capture: open the source, find samples, export, import, and keep the original for comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from ...ir.errors import CaptureError, IRError, UsageError
from ...ir.graph import Module
from ..in_turn import joined
from . import importer, script_state
from .constants import bind, split
from .export import (
    argument_names,
    check_arguments,
    decomposed,
    evaluating,
    export_module,
    restore,
    time_axes,
    try_forward,
)
from .fitting import archive_axes, check_specs
from .lookups import bound_lookups
from .ports import find_ports, user_inputs
from .source import Source, open_source
from .spec import InputSpec, parse_input_spec


def run(model, inputs, time_axis, weights, trust_pickle) -> tuple[Module, Any]:
    """See `capture_with_reference` in the package."""
    source = open_source(model, weights, trust_pickle, whole=True)
    program, axes, names, original = _exported(source, inputs, time_axis)
    meta = {"source_hash": source.digest, "producer": f"torch {torch.__version__}"}
    meta |= {key: source.about[key] for key in ("sample_rate", "tokens", "detect") if key in source.about}
    notes = [*source.notes, *program.graph_module.meta.get("speechc_notes", ())]
    if notes:
        meta["notes"] = notes
    module = _imported(program, axes, names, meta, every=source.program is not None)
    return module, Reference(original if original is not None else source.program.module(), program)


def _imported(program: ExportedProgram, axes, names, meta: dict, every: bool) -> Module:
    """Import with as few conditions on lengths as the graph can be typed with; an archive's own all count."""
    ports = find_ports(program, axes, names, every)
    try:
        module = importer.import_program(program, ports, {**meta, "limits": ports.limits})
    except (CaptureError, IRError):
        more = find_ports(program, axes, names, every=True)
        if more.symbols == ports.symbols:
            raise
        module = importer.import_program(program, more, {**meta, "limits": more.limits})
    bound_lookups(module)
    return module


def operators(model, inputs, time_axis, weights, trust_pickle) -> list[importer.Used]:
    """See `used_operators` in the package."""
    source = open_source(model, weights, trust_pickle, whole=True)
    return importer.used_operators(_exported(source, inputs, time_axis)[0])


def _exported(source: Source, inputs, time_axis) -> tuple[ExportedProgram, dict | None, dict | None, Any]:
    """The functional program, the time axis by input (None: find out), the user's names of sizes by input, the model.

    The last is what the graph is compared with; None where it is the exported program itself.
    """
    if source.program is not None:
        return *_of_archive(source, inputs, time_axis), None
    module = source.module
    if any(m.training for m in module.modules()):
        source.notes.append("the model was in training mode; it was captured in evaluation mode")
    if inputs is None:
        raise UsageError(
            "SC041",
            "the model does not say what its inputs are",
            hints=[f"--input {name}=f32[1,T,80], with its real type and sizes" for name in argument_names(module)[:1]],
        )
    inputs, constants, placed = split(inputs)
    constants |= {argument_names(module)[i]: x for i, x in placed.items() if i < len(argument_names(module))}
    module = bind(module, constants)
    if source.script is not None:
        script_state.forget(module)
    specs = _specs(argument_names(module), inputs)
    if specs is not None:
        with _of_a_trace(source):
            samples = _sampled(module, specs)
        varying = {n: list(s.varying) for n, s in specs.items()}
        axes = {n: s.time_axis for n, s in specs.items() if s.time_axis is not None}
        axes |= _said_axes(specs, time_axis)
        names = {n: s.shape for n, s in specs.items()}
        wanted = None
    else:
        samples, varying, names = _named(module, inputs), None, None
        wanted = axes = time_axes(samples, time_axis)
    original = module
    if source.script is not None:
        check_arguments(module, samples)
        with _of_a_trace(source):
            try_forward(module, samples)
        original = script_state.Original(source.script, constants)
        script_state.settle(module, original, samples)
    return export_module(module, samples, wanted, varying), axes, names, original


@contextlib.contextmanager
def _of_a_trace(source: Source) -> Iterator[None]:
    """Say of a script whose forward fails that it may be a trace."""
    try:
        yield
    except CaptureError as error:
        if source.script is not None and error.code == "SC410":
            error.hints.append("a trace holds the lengths it was traced at: describe those, or use torch.jit.script")
        raise


def _said_axes(specs: Mapping[str, InputSpec], time_axis) -> dict[str, int]:
    """The time axes that the caller names beside descriptions (1 is what is meant by saying nothing), checked."""
    if not isinstance(time_axis, Mapping):
        if time_axis in (None, 1) or any(time_axis in s.varying for s in specs.values()):
            return {}
        time_axis = dict.fromkeys(list(specs)[:1], time_axis)
    for name, axis in time_axis.items():
        if name not in specs or axis not in specs[name].varying:
            raise UsageError(
                "SC042", f"axis {axis} of input {name} cannot be time: it is not described as one that varies",
                hints=["write a name such as T for the size of that axis"],
            )  # fmt: skip
    return dict(time_axis)


def _of_archive(source: Source, inputs, time_axis) -> tuple[ExportedProgram, dict | None, dict | None]:
    """An exported program's own inputs, where the caller describes them at all checked against what he says."""
    axes = archive_axes(source.program, time_axis)
    specs = _specs(list(user_inputs(source.program)), inputs) if inputs is not None else None
    if not specs:
        return decomposed(source.program), _program_axes(source) if axes is None else axes, None
    check_specs(source.program, specs)
    if axes is None:
        axes = {n: s.time_axis for n, s in specs.items() if s.time_axis is not None} or _program_axes(source)
    return decomposed(source.program), axes, {n: s.shape for n, s in specs.items()}


def _program_axes(source: Source) -> dict[str, int] | None:
    """The time axes of an exported program that the archive names, else None."""
    said = source.about.get("time_axis")
    if isinstance(said, int):
        return {name: said for name in user_inputs(source.program)}
    return dict(said) if isinstance(said, Mapping) else None


def _specs(names: list[str], inputs) -> dict[str, InputSpec] | None:
    """Descriptions by name, if the inputs are descriptions."""
    if isinstance(inputs, (str, InputSpec)):
        inputs = [inputs]
    if isinstance(inputs, Mapping):
        if not all(isinstance(x, (str, InputSpec)) for x in inputs.values()):
            return None
        inputs = [parse_input_spec(f"{n}={x}") if isinstance(x, str) else x for n, x in inputs.items()]
    if not all(isinstance(x, (str, InputSpec)) for x in inputs):
        return None
    specs = [parse_input_spec(x) if isinstance(x, str) else x for x in inputs]
    if len(specs) > len(names) and any(s.name is None for s in specs):
        raise UsageError("SC044", f"forward takes {', '.join(names)}; {len(specs)} inputs were given")
    return {s.name or names[i]: s for i, s in enumerate(specs)}


def _named(module, inputs) -> dict[str, torch.Tensor]:
    """Samples by name of forward's arguments."""
    if isinstance(inputs, (np.ndarray, torch.Tensor)):
        inputs = [inputs]
    if not isinstance(inputs, Mapping):
        names = argument_names(module)
        if len(inputs) > len(names):
            raise UsageError("SC044", f"forward takes {', '.join(names)}; {len(inputs)} inputs were given")
        inputs = dict(zip(names, inputs))
    return {n: x if isinstance(x, torch.Tensor) else torch.from_numpy(np.asarray(x)) for n, x in inputs.items()}


def _sampled(module, specs: Mapping[str, InputSpec]) -> dict[str, torch.Tensor]:
    """Random samples of the described inputs, of the first length that the model accepts."""
    audio = any(len(s.shape) <= 2 and s.dtype.startswith("f") for s in specs.values())
    lengths = (16000, 4000, 64000, 1600) if audio else (200, 1000, 64, 3000, 24, 8)
    if not any(s.varying for s in specs.values()):
        lengths = lengths[:1]
    first: CaptureError | None = None
    for length in lengths:
        samples = _random(specs, length)
        check_arguments(module, samples)
        try:
            try_forward(module, samples)
            return samples
        except CaptureError as error:
            first = first or error
    raise first


def _random(specs: Mapping[str, InputSpec], length: int) -> dict[str, torch.Tensor]:
    from .table import DTYPE

    dtypes = {name: dtype for dtype, name in DTYPE.items()}
    random = torch.Generator().manual_seed(0)
    sizes: dict[str, int] = {}
    for s in specs.values():
        for i in s.varying:
            timed = s.time_axis == i
            sizes.setdefault(s.shape[i], length + 8 * sum(n >= length for n in sizes.values()) if timed else 3)
    out = {}
    for name, s in specs.items():
        shape = [sizes.get(n, n) for n in s.shape]
        if s.dtype.startswith("f"):
            out[name] = torch.randn(shape, generator=random).to(dtypes[s.dtype])
        else:
            out[name] = torch.ones(shape, dtype=dtypes[s.dtype])
    return out


class Reference:
    """The original model on named arrays: `reference(feeds)` gives its outputs in the order of the graph's.

    What the model carries starts from its captured values; `reference(*calls)` carries it from call to call, and gives
    their outputs `joined` (see `in_turn`).
    PyTorch's fused transformer layers are off: they write zeros where a padding mask hides a frame.
    """

    def __init__(self, original: torch.nn.Module, program: ExportedProgram):
        self.original, self.program = original, program
        self.names = list(user_inputs(program))
        modular = isinstance(original, torch.nn.Module)
        self.buffers = {n: (b, b.detach().clone()) for n, b in original.named_buffers()} if modular else {}

    def __call__(self, *calls: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        if isinstance(self.original, script_state.Original):
            self.original.restore()
        try:
            with _evaluating_if_possible(self.original), torch.no_grad():
                return joined([self._call(feeds) for feeds in calls])
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            if self.buffers:
                restore(self.original, self.buffers)

    def _call(self, feeds: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        leaves: Sequence = [torch.from_numpy(np.ascontiguousarray(feeds[n])) for n in self.names]
        args, kwargs = pytree.tree_unflatten(leaves, self.program.call_spec.in_spec)
        arrays: list[np.ndarray] = []
        for x in pytree.tree_leaves(self.original(*args, **kwargs)):
            if isinstance(x, torch.Tensor) and x.is_complex():
                arrays += [x.real.numpy().copy(), x.imag.numpy().copy()]
            elif isinstance(x, torch.Tensor):
                arrays.append(x.detach().numpy().copy())  # it may be a buffer, which later calls change
            elif isinstance(x, (int, float)):
                arrays.append(np.asarray(x))
        return tuple(arrays)


def _evaluating_if_possible(module: torch.nn.Module) -> contextlib.AbstractContextManager:
    """Evaluation mode for a module of the user's; exported programs have theirs built in."""
    ours = isinstance(module, torch.nn.Module) and "GraphModule" not in type(module).__name__
    return evaluating(module) if ours else contextlib.nullcontext()

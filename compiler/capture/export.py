"""From an `nn.Module` and samples to an exported program whose time stays symbolic, or a clear reason why not."""

from __future__ import annotations

import contextlib
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch._export.utils import _get_decomp_for_cia
from torch.export import Dim, ExportedProgram

from ...ir.errors import CaptureError, SpeechcError, UsageError
from .conditions import Condition
from .patches import exporting
from .places import asked_directly, module_paths, place_now, place_of_error
from .ports import require_varying, user_inputs
from .recipes.cook import cooked

_DATA_DEPENDENT = re.compile(
    r"data-dependent|GuardOnDataDependent|PendingUnbacked|_local_scalar_dense|aten\.nonzero", re.I
)


def export_module(
    module: torch.nn.Module,
    inputs: Mapping[str, np.ndarray | torch.Tensor],
    time_axis: int | Mapping[str, int] | None = None,
    varying: Mapping[str, Sequence[int]] | None = None,
) -> ExportedProgram:
    """Export `module`, called with `inputs` by name, so that the time axes (and the axes in `varying`) stay symbolic.

    The result is functional: `run_decompositions({})` has been done. Raises `CaptureError`: SC410 the module's own
    code fails, SC412 it decides by the values of tensors, SC413 it fixes a length that should vary, SC414 torch cannot
    export it.
    """
    samples = {name: _tensor(x) for name, x in inputs.items()}
    axes = {name: sorted({*a}) for name, a in (varying or {}).items()}
    for name, axis in time_axes(samples, time_axis).items():
        axes[name] = sorted({*axes.get(name, ()), axis})
    for name, wanted in axes.items():
        for axis in wanted:
            if samples[name].shape[axis] < 2:
                raise UsageError(
                    "SC043",
                    f"the sample of input {name} is {samples[name].shape[axis]} long along axis {axis}",
                    hints=["give a sample of two frames or more, so that time can be told from a dimension of 1"],
                )
    check_arguments(module, samples)
    try_forward(module, samples)
    with evaluating(module), unchanged(module), cooked(module) as made:
        program, conditions = _export(made.model, samples, axes)
    fixed = require_varying(program, axes)
    if fixed:
        raise _fixed_length(program, fixed, conditions)
    program = decomposed(program)
    program.graph_module.meta |= {"speechc_conditions": conditions, "speechc_notes": made.notes()}
    return program


def time_axes(samples: Mapping[str, torch.Tensor], time_axis: int | Mapping[str, int] | None) -> dict[str, int]:
    """The time axis by input name, checked against the samples. Raises `UsageError` SC042."""
    if time_axis is None:
        return {}
    if isinstance(time_axis, int):
        if len(samples) != 1:
            raise UsageError(
                "SC042",
                f"time_axis={time_axis} says nothing about which of {', '.join(samples)} it belongs to",
                hints=[f"time_axis={{{next(iter(samples))!r}: {time_axis}}}"],
            )
        time_axis = {name: time_axis for name in samples}
    out = {}
    for name, axis in time_axis.items():
        if name not in samples:
            raise UsageError("SC042", f"there is no input {name}; inputs: {', '.join(samples)}")
        rank = samples[name].ndim
        if not -rank <= axis < rank:
            raise UsageError("SC042", f"input {name} has {rank} dimensions: axis {axis} cannot be time")
        out[name] = axis % rank
    return out


def _tensor(x) -> torch.Tensor:
    return x.detach() if isinstance(x, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(x))


def argument_names(module: torch.nn.Module) -> list[str]:
    """The names of the arguments of a module's forward, in order."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds]


def check_arguments(module: torch.nn.Module, samples: Mapping[str, torch.Tensor]) -> None:
    """Raise `UsageError` SC044 where forward does not take the inputs by these names."""
    parameters = inspect.signature(module.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    unknown = [n for n in samples if n not in parameters]
    missing = [
        n for n, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and n not in samples
    ]  # fmt: skip
    if unknown or missing:
        raise UsageError(
            "SC044",
            f"forward takes {', '.join(parameters)}; given: {', '.join(samples) or 'nothing'}",
            hints=[_described(parameters.get((missing or unknown)[0]), (missing or unknown)[0])],
        )


def _described(parameter: inspect.Parameter | None, name: str) -> str:
    if parameter is not None and parameter.annotation in (int, float, bool, "int", "float", "bool"):
        return f"--input {name}=0, with the number that it always is"
    return f"--input {name}=f32[1,T,80], with its real type and sizes"


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every submodule's own mode afterwards."""
    before = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in before:
            m.training = training


@contextlib.contextmanager
def unchanged(module: torch.nn.Module) -> Iterator[None]:
    """The module's buffers are afterwards what they were, whatever its forward writes to them."""
    before = {name: (b, b.detach().clone()) for name, b in module.named_buffers()}
    try:
        yield
    finally:
        restore(module, before)


def restore(module: torch.nn.Module, before: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Put back buffers: the tensors that were there, with the values that they had."""
    now = dict(module.named_buffers())
    for name, (tensor, values) in before.items():
        if now.get(name) is not tensor:
            owner, _, last = name.rpartition(".")
            module.get_submodule(owner)._buffers[last] = tensor
        if not torch.equal(tensor, values):
            with torch.no_grad():
                tensor.copy_(values)


def try_forward(module: torch.nn.Module, samples: Mapping[str, torch.Tensor]) -> None:
    """Run forward once, in evaluation mode, leaving the module as it was.

    Raises `CaptureError` SC410 with the user's own line where it fails.
    """
    try:
        with evaluating(module), unchanged(module), torch.no_grad():
            module(**samples)
    except SpeechcError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{n} {str(x.dtype).removeprefix('torch.')}{list(x.shape)}" for n, x in samples.items())
        raise CaptureError(
            "SC410",
            f"the model's forward fails on {shapes}: {_first_lines(error)}",
            where=place_of_error(module_paths(module), error),
            hints=["give an input that the model accepts, with --input or sample arrays"],
        ) from error


def _export(module, samples, axes: Mapping[str, Sequence[int]]) -> tuple[ExportedProgram, list[Condition]]:
    """The program, and the conditions on lengths that torch took for granted."""
    names = list(samples)
    dynamic = {n: {a: Dim.AUTO for a in axes[n]} if axes.get(n) else None for n in names}
    parameters = inspect.signature(module.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) and not set(names) <= set(parameters):
        extra = next(p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD)
        dynamic = {n: d for n, d in dynamic.items() if n in parameters} | {
            extra: {n: d for n, d in dynamic.items() if n not in parameters}
        }
    paths, conditions = module_paths(module), []

    def watch(expression) -> None:
        conditions.append(Condition(expression, tuple(place_now(paths)), asked_directly()))

    try:
        with exporting(watch), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                module, (), kwargs=dict(samples), dynamic_shapes=dynamic,
                prefer_deferred_runtime_asserts_over_guards=True,
            )  # fmt: skip
            return program, conditions
    except SpeechcError:
        raise
    except Exception as error:
        places = place_of_error(paths, error)
        text = f"{type(error).__name__}: {error}"
        if _DATA_DEPENDENT.search(text):
            raise CaptureError(
                "SC412",
                "the model decides by the values of a tensor, which a graph cannot do",
                where=places,
                hints=["use torch.where for the choice, or decide in Python before the model",
                       f"torch says: {_first_lines(error)}"],
            ) from error  # fmt: skip
        raise CaptureError("SC414", f"torch cannot export the model: {_first_lines(error)}", where=places) from error


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """The program in functional form, composite layers kept; operators that capture lacks are taken apart by torch.

    An operator that torch cannot turn into known ones stays as it is, so that errors name what the model uses.
    Raises `CaptureError` SC415 where torch cannot make the program functional.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = program.run_decompositions({})
        except Exception as error:
            raise CaptureError("SC415", f"torch cannot take the model apart: {_first_lines(error)}") from error
        lacking = _unknown(program)
        if not lacking:
            return program
        apart = _taken_apart(program, lacking)
        if apart is not None and not _unknown(apart):
            return apart
        possible = set()
        for name in lacking:
            apart = _taken_apart(program, {name})
            if apart is not None and _unknown(apart) < lacking:
                possible.add(name)
        return _taken_apart(program, possible) or program


def _unknown(program: ExportedProgram) -> set[str]:
    from . import importer

    return {u.operator for u in importer.used_operators(program) if not u.known}


def _taken_apart(program: ExportedProgram, names: set[str]) -> ExportedProgram | None:
    """The program with the named operators, and what comes out of them, taken apart; None if that fails."""
    others = _unknown(program) - names
    for _ in range(4):
        table = _decompositions(names)
        if not table:
            break
        try:
            program = program.run_decompositions(table)
        except Exception:  # torch's decompositions can fail on what they were not written for
            return None
        names = _unknown(program) - others
    return program


def _decompositions(names: set[str]) -> dict:
    """Torch's own decompositions of the named operators."""
    if not names:
        return {}
    table = {}
    for operator, function in torch._decomp.decomposition_table.items():
        if str(operator) in names:
            table[operator] = function
    for name in names - {str(o) for o in table}:
        operator = _operator(name)
        if operator is not None and torch._C._dispatch_has_kernel_for_dispatch_key(
            operator.name(), "CompositeImplicitAutograd"
        ):
            table[operator] = _get_decomp_for_cia(operator)
    return table


def _operator(name: str):
    found = torch.ops
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    return found if isinstance(found, torch._ops.OpOverload) else None


def _fixed_length(
    program: ExportedProgram, fixed: list[tuple[str, int, int]], conditions: list[Condition]
) -> CaptureError:
    name, axis, length = fixed[0]
    shape = list(user_inputs(program)[name].meta["val"].shape)
    shape[axis] = length
    sizes = ",".join(str(s) if isinstance(s, int) else "T" for s in shape)
    places = [p for c in conditions if _is_one_length(c.expression) for p in c.places]
    return CaptureError(
        "SC413",
        "; ".join(f"the model fixes axis {a} of {n} at {size}, which should vary" for n, a, size in fixed),
        where=list(dict.fromkeys(places)),
        hints=[
            f"if the model accepts only this length, say so: --input {name}=f32[{sizes}]",
            "lengths taken from Python (int(x.shape[1]), lists of frames) fix it; compute with x.shape[1] itself",
        ],
    )


def _is_one_length(expression) -> bool:
    """Whether a condition is `length == number`."""
    return type(expression).__name__ == "Equality" and any(a.is_Integer for a in expression.args)


def _first_lines(error: BaseException, most: int = 300) -> str:
    text = " ".join(line.strip() for line in str(error).strip().splitlines()[:4] if line.strip())
    return f"{type(error).__name__}: {text[:most]}"

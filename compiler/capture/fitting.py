"""What a caller says about the inputs of an exported program, held against the inputs that it has."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...ir.errors import UsageError
from .ports import user_inputs
from .spec import InputSpec


def check_specs(program, specs: Mapping[str, InputSpec]) -> None:
    """Raise `UsageError` SC046 where a description has another name, type, rank or size than the program's input."""
    from .table import DTYPE

    inputs = user_inputs(program)
    for name, spec in specs.items():
        if name not in inputs:
            raise UsageError("SC046", f"the archive has no input {name}", hints=[f"its inputs: {_shown(inputs)}"])
        value = inputs[name].meta["val"]
        fits = len(spec.shape) == value.ndim and spec.dtype == DTYPE.get(value.dtype)
        if not fits or any(
            isinstance(s, str) != _varies(n) or not _same(s, n) for s, n in zip(spec.shape, value.shape)
        ):
            raise UsageError(
                "SC046",
                f"input {name} is described as {spec.dtype}[{', '.join(map(str, spec.shape))}], "
                f"the archive takes {_shown({name: inputs[name]})}",
                hints=["leave --input out: an archive describes its own inputs", "export the model with other sizes"],
            )


def archive_axes(program, time_axis: int | Mapping[str, int] | None) -> dict[str, int] | None:
    """The time axes that the caller names, checked; None where there are none (1 is what is meant by saying nothing).

    Raises `UsageError` SC042 for an axis that is not there or does not vary.
    """
    inputs = user_inputs(program)
    if time_axis is None or (isinstance(time_axis, int) and time_axis == 1):
        return None
    if isinstance(time_axis, int):
        if len(inputs) != 1:
            raise UsageError(
                "SC042",
                f"time axis {time_axis} does not say which of {', '.join(inputs)} it belongs to",
                hints=[f"--time-axis {next(iter(inputs), 'name')}={time_axis}"],
            )
        time_axis = dict.fromkeys(inputs, time_axis)
    return {name: _axis(inputs, name, axis) for name, axis in time_axis.items()}


def _axis(inputs: Mapping[str, torch.fx.Node], name: str, axis: int) -> int:
    if name not in inputs:
        raise UsageError("SC042", f"there is no input {name}; inputs: {_shown(inputs)}")
    shape = inputs[name].meta["val"].shape
    if not -len(shape) <= axis < len(shape) or not _varies(shape[axis]):
        raise UsageError(
            "SC042",
            f"axis {axis} of input {name} cannot be time: the archive takes {_shown({name: inputs[name]})}",
            hints=["time is an axis whose size varies: export the model with that axis dynamic"],
        )
    return axis % len(shape)


def _varies(size) -> bool:
    return isinstance(size, torch.SymInt)


def _same(said: int | str, size) -> bool:
    return isinstance(said, str) or said == size


def _shown(inputs: Mapping[str, torch.fx.Node]) -> str:
    from .table import DTYPE

    texts = []
    for name, node in inputs.items():
        value = node.meta["val"]
        sizes = ("varies" if _varies(n) else str(n) for n in value.shape)
        texts.append(f"{name}={DTYPE.get(value.dtype, value.dtype)}[{', '.join(sizes)}]")
    return ", ".join(texts)

"""Descriptions of inputs as text: `name=f32[1,T,80]`, or `name=16000` for one that is always that number."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...ir.errors import UsageError
from ...ir.types import DTYPES

_SPEC = re.compile(r"\s*(?:([A-Za-z_]\w*)\s*=)?\s*([a-z]\w*)\s*\[([^\]]*)\]\s*$")
_CONSTANT = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*([-+]?\d+|[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?|[-+]?\d+\.|true|false)\s*$")
BATCH = ("B", "N", "batch")


@dataclass(frozen=True)
class InputSpec:
    """One input: name (None: the next argument of forward), element type, and sizes; a name is one that varies."""

    name: str | None
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def varying(self) -> tuple[int, ...]:
        """The axes whose size varies."""
        return tuple(i for i, s in enumerate(self.shape) if isinstance(s, str))

    @property
    def time_axis(self) -> int | None:
        """The axis that is time: the varying one that is not a batch; the one called T... where there are several."""
        axes = [i for i in self.varying if self.shape[i] not in BATCH]
        named = [i for i in axes if self.shape[i].startswith("T")]
        return next(iter(named or axes), None)


@dataclass(frozen=True)
class ConstantSpec:
    """An argument of forward that is no tensor and is always the same: a sample rate, a flag."""

    name: str
    value: int | float | bool


def parse_input(text: str) -> InputSpec | ConstantSpec:
    """Read `name=f32[1,T,80]`, or `name=16000`, `name=0.5`, `name=true`. Raises `UsageError` SC040."""
    found = _CONSTANT.match(text)
    if not found:
        return parse_input_spec(text)
    name, value = found.groups()
    if value in ("true", "false"):
        return ConstantSpec(name, value == "true")
    return ConstantSpec(name, int(value) if re.fullmatch(r"[-+]?\d+", value) else float(value))


def parse_input_spec(text: str) -> InputSpec:
    """Read `name=f32[1,T,80]`; the name may be left out. Raises `UsageError` SC040."""
    found = _SPEC.match(text)
    if not found:
        raise UsageError(
            "SC040",
            f"not an input: {text!r}",
            hints=["write it as name=f32[1,T,80]", "a number that is always the same: name=16000"],
        )
    name, dtype, dims = found.groups()
    if dtype not in DTYPES:
        raise UsageError("SC040", f"{text!r}: unknown element type {dtype}", hints=[f"one of {', '.join(DTYPES)}"])
    shape: list[int | str] = []
    for part in (p.strip() for p in dims.split(",")) if dims.strip() else ():
        if part.isdigit() and int(part) > 0:
            shape.append(int(part))
        elif part.isidentifier():
            shape.append(part)
        else:
            raise UsageError("SC040", f"{text!r}: {part!r} is not a size", hints=["a number, or a name such as T"])
    return InputSpec(name, dtype, tuple(shape))

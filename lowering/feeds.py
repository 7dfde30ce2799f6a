"""What a file can be fed: names, types, ranks, sizes, and the range of every size that varies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..ir.errors import UsageError
from ..ir.expr import Expr, Sym, evaluate, parse_size, symbols
from ..ir.types import DTYPES
from .manifest import Manifest, Port


def checked_feeds(manifest: Manifest, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs by the file's own names, if they fit its ports and limits.

    Raises `UsageError`: SC110 missing or unknown inputs, SC111 another rank or element type, SC112 a size that does
    not fit, differs between inputs, or lies outside `manifest.limits`.
    """
    ports = manifest.inputs
    missing = [p.name for p in ports if p.name not in feeds]
    if missing:
        raise UsageError("SC110", f"input {missing[0]} is missing; this file takes {_names(ports)}")
    extra = sorted(set(feeds) - {p.name for p in ports})
    if extra:
        raise UsageError("SC110", f"this file has no input {', '.join(extra)}; it takes {_names(ports)}")
    given = {p.name: np.asarray(feeds[p.name]) for p in ports}
    bound: dict[str, tuple[int, str]] = {}
    for port in ports:
        array = given[port.name]
        if array.ndim != len(port.shape) or array.dtype != DTYPES[port.dtype]:
            raise UsageError(
                "SC111", f"input {port.name} is {array.dtype}{list(array.shape)}, not {port.dtype}{_shape(port)}"
            )
        for axis in range(array.ndim):
            _bind(manifest, port, axis, array.shape[axis], bound)
    return {p.file_name: given[p.name] for p in ports}


def _bind(manifest: Manifest, port: Port, axis: int, n: int, bound: dict[str, tuple[int, str]]) -> None:
    """Check one size of an input, and keep in `bound` what it says of the sizes that vary: (value, where)."""
    size = port.shape[axis] if isinstance(port.shape[axis], int) else parse_size(port.shape[axis])
    said = f"{port.name} has {n} {_unit(port, axis)} along axis {axis}"
    if isinstance(size, int):
        if size != n:
            raise UsageError("SC112", f"{said}; the model takes {size}")
        return
    names = sorted(symbols(size))
    line = _line(size) if len(names) == 1 else None
    if line is None:
        if all(name in bound for name in names) and evaluate(size, {k: bound[k][0] for k in names}) != n:
            raise UsageError("SC112", f"{said}; the model takes {size}")
        return
    slope, offset = line
    value, rest = divmod(n - offset, slope)
    if rest:
        raise UsageError("SC112", f"{said}; the model takes {size}")
    least, most = manifest.limits.get(names[0], [None, None])
    if least is not None and value < least:
        raise UsageError("SC112", f"{said}; the model takes at least {least * slope + offset}")
    if most is not None and value > most:
        raise UsageError("SC112", f"{said}; the model takes at most {most * slope + offset}")
    before, where = bound.setdefault(names[0], (value, said))
    if before != value:
        raise UsageError("SC112", f"{said}, but {where}; the model takes both of one {names[0]}")


def _line(size: Expr) -> tuple[int, int] | None:
    """(a, b) where the size is a*n + b with a > 0, else None."""
    if any(len(monomial) > 1 or not all(isinstance(atom, Sym) for atom in monomial) for monomial, _ in size.terms):
        return None
    slope = sum(by for monomial, by in size.terms if monomial)
    return (slope, sum(by for monomial, by in size.terms if not monomial)) if slope > 0 else None


def _unit(port: Port, axis: int) -> str:
    if port.time is None or port.time["axis"] != axis:
        return "entries"
    return "samples" if len(port.shape) <= 2 else "frames"


def _shape(port: Port) -> str:
    return f"[{', '.join(map(str, port.shape))}]"


def _names(ports: list[Port]) -> str:
    return ", ".join(f"{p.name}: {p.dtype}{_shape(p)}" for p in ports)

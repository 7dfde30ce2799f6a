"""What torch took for granted about lengths while it traced, and which lengths that leaves.

A traced `if` on a length is decided once. Conditions that hold at every length are harmless; one that holds at every
m-th length means that the length is m*T + r; one that holds at the traced length alone means that it is fixed. Torch
itself asks too, mostly about the layout of memory, which changes no result: its own questions count only where a graph
cannot be typed without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sympy
import torch

from ...ir.errors import CaptureError

WINDOW = 60  # consecutive lengths that are tried; periods up to half of it are found


@dataclass(frozen=True)
class Condition:
    """A condition on sizes that the trace depends on, and the user's line that asked for it (`direct`) or led to it."""

    expression: sympy.Basic
    places: tuple[str, ...] = ()
    direct: bool = False


@dataclass
class Lengths:
    """The lengths that one unknown may have: step*n + offset, from `least` on."""

    step: int = 1
    offset: int = 0
    least: int = 1


def traced_conditions(program) -> list[Condition]:
    """The conditions of an exported program: those seen while it was made, and the assertions in its graph."""
    found = list(program.graph_module.meta.get("speechc_conditions", ()))
    for node in program.graph.nodes:
        if node.op == "call_function" and str(node.target) == "aten._assert_scalar.default":
            asserted = node.args[0]
            value = asserted.meta.get("val") if isinstance(asserted, torch.fx.Node) else asserted
            if isinstance(value, torch.SymBool):
                found.append(Condition(value.node.expr))
    return list(dict.fromkeys(found))


def lengths_of(unknown: sympy.Symbol, hint: int, most: int | None, conditions: Iterable[Condition]) -> Lengths:
    """What the conditions on one unknown leave of its values, which include `hint`.

    Torch's own conditions count only if they mean every m-th length. Raises `CaptureError` for those of the model:
    SC413 where they hold for no other length, SC416 where they follow no period.
    """
    out = Lengths()
    for c in conditions:
        if c.expression.free_symbols == {unknown}:
            try:
                _narrow(out, c, _test(c.expression, unknown), hint, most)
            except CaptureError:
                if c.direct:
                    raise
    return out


def _test(expression: sympy.Basic, unknown: sympy.Symbol) -> Callable[[int], bool]:
    def holds(n: int) -> bool:
        try:
            return expression.xreplace({unknown: sympy.Integer(n)}) in (True, sympy.true)
        except (ZeroDivisionError, AssertionError, ValueError):
            return False  # a size that makes no sense, such as a division by zero

    return holds


def _narrow(out: Lengths, c: Condition, holds: Callable[[int], bool], hint: int, most: int | None) -> None:
    def allowed(start: int, count: int) -> list[int]:
        first = start + (out.offset - start) % out.step
        numbers = range(first, first + count * out.step, out.step)
        return [n for n in numbers if most is None or n <= most]

    far = allowed(10 * hint + 97, WINDOW) if most is None else allowed(hint, WINDOW)
    true = [n for n in far if holds(n)]
    if len(true) == len(far):
        late = [n for n in allowed(hint, WINDOW) if not holds(n)]
        out.least = max([out.least, *(n + 1 for n in late)])
        return
    if len(true) < 2 or (most is None and true == far[: len(true)]):
        raise CaptureError(
            "SC413",
            f"the model was traced at length {hint} and would do something else at other lengths ({c.expression})",
            where=c.places,
            hints=[
                "compute with x.shape[1] itself; int(0.5 * x.shape[1]) fixes it, x.shape[1] // 2 does not",
                "if the sample is very short, give a longer one",
            ],
        )
    step = true[1] - true[0]
    if true != [n for n in far if (n - true[0]) % step == 0]:
        raise CaptureError(
            "SC416",
            f"the model does different things at different lengths ({c.expression})",
            where=c.places,
            hints=["let the graph decide by torch.where, or give one fixed length"],
        )
    out.step, out.offset = step, hint % step

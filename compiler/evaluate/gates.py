"""Gates on error rates (`--gate 'wer<=1.02x'`): what they say, and whether files pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...ir.errors import QualityError, UsageError

if TYPE_CHECKING:
    from .evaluation import Evaluation, Result

_GATE = re.compile(r"\s*([a-z-]+)\s*(<=|<)\s*(\d+(?:\.\d*)?|\.\d+)\s*(x|%)?\s*$")
HOW = "wer<=5%, cer<=0.02, wer<=1.02x (of the first file), left-out<=0 (recordings)"
METRICS: dict[str, Callable[[Evaluation, Result], float]] = {
    "wer": lambda found, result: result.words.rate,
    "cer": lambda found, result: result.characters.rate,
    "left-out": lambda found, result: float(len(found.left_out)),
}


@dataclass(frozen=True)
class Gate:
    """`metric` is to be below (or at) `limit`, which may be a multiple of the first file's."""

    text: str
    metric: str
    strict: bool
    limit: float
    relative: bool

    def check(self, found: Evaluation) -> list[Verdict]:
        """One verdict a file; of a relative gate, for every file after the first."""
        measure = METRICS[self.metric]
        first, *others = found.results
        limit = self.limit * measure(found, first) if self.relative else self.limit
        made = []
        for result in others if self.relative else found.results:
            value = measure(found, result)
            passed = value < limit if self.strict else value <= limit
            made.append(Verdict(self.text, self.metric, result.name, value, limit, passed))
        return made


@dataclass(frozen=True)
class Verdict:
    """Whether a file passed a gate."""

    gate: str
    metric: str
    file: str
    value: float
    limit: float
    passed: bool

    def __str__(self) -> str:
        shown = (lambda v: f"{v:g}") if self.metric == "left-out" else (lambda v: f"{100 * v:.3f} %")
        sign = "passes" if self.passed else "fails"
        return f"{self.file}: {sign} {self.gate}: {self.metric} {shown(self.value)}, limit {shown(self.limit)}"

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {k: getattr(self, k) for k in ("gate", "metric", "file", "value", "limit", "passed")}


def parse_gate(text: str) -> Gate:
    """A gate as users write it. Raises `UsageError` SC086."""
    found = _GATE.match(text)
    if not found or found[1] not in METRICS or (found[1] == "left-out" and found[4]):
        raise UsageError("SC086", f"--gate {text!r} is no gate", hints=[HOW])
    limit = float(found[3]) / (100 if found[4] == "%" else 1)
    return Gate(text, found[1], found[2] == "<", limit, found[4] == "x")


def check_gates(gates: list[Gate], files: int) -> list[Gate]:
    """The gates. Raises `UsageError` SC086 for one that compares with the first file, where there is no other."""
    for gate in gates:
        if gate.relative and files < 2:
            raise UsageError("SC086", f"--gate {gate.text} compares with the first file, and there is only one")
    return gates


def enforce(verdicts: list[Verdict]) -> None:
    """Raise `QualityError` SC600 where a file did not pass."""
    failed = [v for v in verdicts if not v.passed]
    if failed:
        raise QualityError("SC600", f"{len(failed)} of {len(verdicts)} gates failed", [str(v) for v in failed])

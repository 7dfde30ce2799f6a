"""Every message that reaches a user: what, where in the model, why, what to do, with a code and an exit status."""

from __future__ import annotations

INTERNAL, USAGE, CAPTURE, UNSUPPORTED, NUMERICAL, QUALITY, BUDGET, MISSING = 1, 2, 3, 4, 5, 6, 7, 8


class SpeechcError(Exception):
    """An error with a stable code; `exit_code` is the process status it ends in.

    `where` lists places in the user's model, `hints` ways out. Subclasses set the exit status by kind of failure.
    """

    exit_code = INTERNAL

    def __init__(self, code: str, message: str, where: list[str] | tuple[str, ...] = (), hints=()):
        super().__init__(message)
        self.code, self.message, self.where, self.hints = code, message, list(where), list(hints)

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        lines += [f"  at {place}" for place in self.where]
        lines += [f"  try: {hint}" for hint in self.hints]
        return "\n".join(lines)


class UsageError(SpeechcError):
    """The command or call does not make sense as given (exit status 2)."""

    exit_code = USAGE


class CaptureError(SpeechcError):
    """The model could not be read or captured (exit status 3)."""

    exit_code = CAPTURE


class UnsupportedError(SpeechcError):
    """The target lacks something that the model needs (exit status 4)."""

    exit_code = UNSUPPORTED


class NumericalError(SpeechcError):
    """The result does not do what the model did (exit status 5)."""

    exit_code = NUMERICAL


class QualityError(SpeechcError):
    """The words that come out are worse than was asked for (exit status 6)."""

    exit_code = QUALITY


class BudgetError(SpeechcError):
    """The result is larger, slower or hungrier than it may be (exit status 7)."""

    exit_code = BUDGET


class MissingError(SpeechcError):
    """A package or a device is missing (exit status 8)."""

    exit_code = MISSING


class IRError(SpeechcError):
    """A graph is malformed: a type rule, the verifier or the text parser says no (exit status 1)."""

    def __init__(self, message: str, where=(), hints=(), code: str = "SC100"):
        super().__init__(code, message, where, hints)

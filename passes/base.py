"""What a pass is: a name, a stage, what it keeps, options, and `run(graph, context)`; and the table of all passes.

A subclass that has a `name` is registered when it is defined. Its annotated fields are its options, so that
`"prune{heads=0.25}"` makes `Prune(heads=0.25)` and dumps print the same text back.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np

from ..ir import plugins
from ..ir.errors import UsageError
from ..ir.graph import Graph, Loc, Op
from ..ir.turns import calls_in, play

STAGES = ("import", "normalize", "streaming", "optimize", "compress", "legalize", "emit")
PASSES: dict[str, type[Pass]] = {}


# -- what a pass keeps ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Exact:
    """Every output bit for bit; a pass may add outputs."""

    def allows(self, error: float) -> bool:
        """Whether a relative error is within what is declared."""
        return error == 0

    def __str__(self) -> str:
        return "exact"


@dataclass(frozen=True)
class Close:
    """Every output to within `rtol` of the largest output, judged in float64."""

    rtol: float

    def allows(self, error: float) -> bool:
        """Whether a relative error is within what is declared."""
        return error <= self.rtol

    def __str__(self) -> str:
        return f"within {self.rtol:g}"


@dataclass(frozen=True)
class Streaming:
    """The outputs chunk by chunk, concatenated, are those of the whole; the signature changes."""

    def allows(self, error: float) -> bool:
        """Whether a relative error is within what is declared."""
        return error <= 1e-10

    def __str__(self) -> str:
        return "streamed = whole"


@dataclass(frozen=True)
class Composed:
    """The outputs are those of the graph before, for what the pass computes of its new input; the signature changes."""

    def allows(self, error: float) -> bool:
        """Whether a relative error is within what is declared."""
        return error <= 1e-10

    def __str__(self) -> str:
        return "what is computed in front is put in"


@dataclass(frozen=True)
class Lossy:
    """Outputs change; `metric` ("snr" in dB, at least `budget`) says how much is expected to be lost at most."""

    metric: str
    budget: float

    def allows(self, error: float) -> bool:
        """Whether a relative error is within what is declared."""
        return True

    def __str__(self) -> str:
        return f"{self.metric} at least {self.budget:g}"


Equal = Exact | Close | Streaming | Composed | Lossy
RESHAPING = (Streaming, Composed)  # the signature changes: inputs of before and after do not compare


# -- context -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Remark:
    """One thing a pass has to tell its user: `kind` is "applied", "missed" or "note"."""

    kind: str
    pass_name: str
    message: str
    loc: Loc

    def __str__(self) -> str:
        return f"{self.kind}[{self.pass_name}]: {self.message}, at {self.loc}"


@dataclass
class Context:
    """What the compiler gives every pass: remarks, a budget of changes, samples, and a way to run a graph fast.

    `executor(graph, *calls)` returns the outputs of a graph, `joined` where there are several calls (`ir.turns`);
    `samples` are feeds to calibrate with, `Turns` where a graph has states; `trials` are feeds that are typical enough
    to look at the range of values with; `limit` is how many more changes may be made (None: any number), so that a
    faulty one can be bisected. `meta` are the facts of the module (`Module.meta`): a pass that makes others true says
    so there.
    """

    executor: Callable[..., tuple[np.ndarray, ...]] | None = None
    samples: list[Mapping[str, np.ndarray]] = field(default_factory=list)
    limit: int | None = None
    remarks: list[Remark] = field(default_factory=list)
    changes: int = 0
    trials: list[Mapping[str, np.ndarray]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    _told: set = field(default_factory=set)

    def run(self, graph: Graph, feeds: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """The outputs of `graph`, by the fast executor where there is one, else by the interpreter.

        Of a sample of several calls (`Turns`) those of all, along a new first axis.
        """
        return (self.executor or play)(graph, *calls_in(feeds))

    def copy(self) -> Context:
        """One more, with what was said so far, for a graph that goes its own way from here."""
        return replace(self, remarks=list(self.remarks), _told=set(self._told))

    def allow(self) -> bool:
        """Ask before every change; counts it. False once the limit is reached: then change nothing more."""
        if self.limit is not None and self.changes >= self.limit:
            return False
        self.changes += 1
        return True

    def remark(self, kind: str, pass_name: str, message: str, where: Op | Loc) -> None:
        """Tell the user something, once."""
        remark = Remark(kind, pass_name, message, where.loc if isinstance(where, Op) else where)
        if remark not in self._told:
            self._told.add(remark)
            self.remarks.append(remark)


# -- passes --------------------------------------------------------------------------------------------------------
class Pass:
    """Base of all passes. Class attributes: `name`, `stage` and `equal`; annotated fields are options."""

    name: ClassVar[str] = ""
    stage: ClassVar[str] = ""
    equal: ClassVar[Equal] = Exact()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            return
        if plugins.is_plugged(cls):
            from . import library  # noqa: F401  imports every pass file
        if cls.stage not in STAGES:
            raise TypeError(f"{cls.__name__}.stage is {cls.stage!r}; stages are {', '.join(STAGES)}")
        if cls.name in PASSES and PASSES[cls.name].__module__ != cls.__module__:
            raise TypeError(f"two passes are called {cls.name}")
        PASSES[cls.name] = dataclass(cls)

    def run(self, graph: Graph, context: Context) -> None:
        """Change `graph` in place; ask `context.allow()` before each change that can be made alone."""
        raise NotImplementedError(type(self).__name__)

    def __str__(self) -> str:
        given = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        return self.name + ("{" + ", ".join(f"{n}={v!r}" for n, v in given) + "}" if given else "")


def registered() -> dict[str, type[Pass]]:
    """Every pass by name, those of installed plugins included."""
    from . import library  # noqa: F401  imports every pass file

    plugins.load()
    return dict(sorted(PASSES.items(), key=lambda item: (STAGES.index(item[1].stage), item[0])))


def make(text: str) -> Pass:
    """A pass from its text: `name` or `name{option=value, …}`."""
    found = re.fullmatch(r"\s*([\w-]+)\s*(?:\{(.*)\})?\s*", text, re.S)
    if not found:
        raise UsageError("SC020", f"not a pass: {text!r}", hints=["write name or name{option=value}"])
    cls = registered().get(found[1])
    if cls is None:
        raise UsageError("SC021", f"there is no pass {found[1]}", hints=["speechc passes lists all of them"])
    return cls(**_options(cls, found[2] or ""))


def _options(cls: type[Pass], text: str) -> dict[str, Any]:
    known = {f.name for f in fields(cls)}
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        given = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        if call.args:
            raise ValueError("options are name=value")
    except (SyntaxError, ValueError) as error:
        raise UsageError("SC020", f"not options of {cls.name}: {{{text}}} ({error})") from None
    if set(given) - known:
        has = ", ".join(sorted(known)) or "none"
        raise UsageError("SC022", f"{cls.name} has no option {', '.join(sorted(set(given) - known))} (it has {has})")
    return given

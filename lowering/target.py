"""What every target is: a legality table, `emit`, and a session to run the file; found by folder or from plugins."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..ir import plugins
from ..ir.errors import MissingError, UnsupportedError, UsageError
from ..ir.graph import Graph, Module, Op
from .manifest import Manifest

if TYPE_CHECKING:
    from .inside import Inside

# Every folder here is a target: `lowering/<name>/__init__.py` holds `target`.
TARGETS = tuple(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.ispkg)
PLUGGED: dict[str, Target] = {}  # those of installed plugins
ALONE = False  # whether this process serves one file alone: then a runtime that wants a process of its own has one
SUFFIXES = (".onnx", ".tflite", ".mlpackage", ".engine")  # names that mean a file, not a folder, after -o


@dataclass(frozen=True)
class Option:
    """A choice of one target, shown in its help: a name, a default and what it does."""

    name: str
    default: object
    help: str


@dataclass(frozen=True)
class OpTime:
    """Seconds that one operator of a file took in all calls: the module it comes from, the runtime's kind and name."""

    path: str
    kind: str
    name: str
    seconds: float


class Session(ABC):
    """A loaded file. States start at their initial values and go from one `run` to the next until `reset`."""

    runner: str = ""  # what runs the file, as reports name it: "onnxruntime"
    manifest: Manifest
    states: dict[str, np.ndarray]  # the current value of every state, by the name of the file's input

    @abstractmethod
    def run_named(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by the model's own names, for inputs by the model's own names, in the model's own layout."""

    @abstractmethod
    def reset(self) -> None:
        """Put every state back to its initial value."""

    def state(self, name: str) -> np.ndarray:
        """The value that the state called `name` (the model's own name) has now."""
        return self.states[self._state_input(name)]

    def set_state(self, name: str, value: np.ndarray) -> None:
        """Make `value` what the next run finds in a state. Raises `UsageError` SC111 for another shape or type."""
        held = self.state(name)
        if value.shape != held.shape or value.dtype != held.dtype:
            raise UsageError(
                "SC111", f"state {name} is {held.dtype}{list(held.shape)}, not {value.dtype}{list(value.shape)}"
            )
        self.states[self._state_input(name)] = value

    @cached_property
    def _state_inputs(self) -> dict[str, str]:
        return {p.name: p.file_name for p in self.manifest.states}

    def _state_input(self, name: str) -> str:
        if name not in self._state_inputs:
            known = ", ".join(self._state_inputs) or "none"
            raise UsageError("SC110", f"there is no state {name}; this file has {known}")
        return self._state_inputs[name]

    def run(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Outputs in order, for inputs in order."""
        names = [p.name for p in self.manifest.inputs]
        if len(arrays) != len(names):
            raise UsageError("SC110", f"this file takes {len(names)} inputs ({', '.join(names)}), got {len(arrays)}")
        out = self.run_named(dict(zip(names, arrays)))
        return tuple(out[p.name] for p in self.manifest.outputs)


class Target(ABC):
    """One way to write and run a graph. Subclasses live in `lowering/<name>/__init__.py` as `target`.

    `legalize` names the passes that bring a graph into this target's form, in order; `precisions` what it can be asked
    for, `default` what it makes where nothing is said; `suffix` its files, `folder` whether such a "file" is a folder.
    Nothing here may import the target's SDK before `emit` or `load`.
    """

    name: str
    suffix: str
    legalize: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("float32",)
    default: str = "float32"
    folder: bool = False
    exact_products: bool = False  # integer matrix products come out the same, to the bit, however many rows there are
    options: tuple[Option, ...] = ()
    untimed: tuple[str, str] = ("its runtime does not time operators", "compile it for onnx, whose runtime does")

    def compress(self, precision: str, calibrated: bool) -> tuple[str, ...]:
        """The passes (as text) that make a graph of `precision` out of a float32 one, best for this target."""
        return ()

    def legalize_for(self, precision: str) -> tuple[str, ...]:
        """The passes (as text) that bring a graph of `precision` into this target's form."""
        return self.legalize

    @property
    @abstractmethod
    def kinds(self) -> frozenset[str]:
        """The ops that this target has in at least one form."""

    @abstractmethod
    def illegal(self, op: Op) -> str | None:
        """Why this target cannot express `op`, judged from its kind, attributes and types; None if it can."""

    @abstractmethod
    def emit(self, module: Module, path: Path, precision: str, options: Mapping[str, object]) -> list[Path]:
        """Write the file(s) of a legal module at `path` and the manifest beside; return every path written."""

    @abstractmethod
    def load(self, path: Path, threads: int | None = None) -> Session:
        """Open a file that `emit` wrote."""

    def inside(self, path: Path, module: Module, precision: str, options: Mapping[str, object]) -> Inside | None:
        """The file at `path` beside the legal module that it would be emitted from; None where it cannot be seen."""
        return None

    def profile(
        self, path: Path, calls: Iterable[Mapping[str, np.ndarray]], threads: int | None = None
    ) -> list[OpTime]:
        """What each operator of a file takes over these calls (inputs by the model's names; states go along).

        Raises `UnsupportedError` SC340 where the runtime does not tell.
        """
        raise UnsupportedError("SC340", f"{self.name}: {self.untimed[0]}", hints=[self.untimed[1]])

    def chosen(self, options: Mapping[str, object]) -> dict[str, object]:
        """Every option by name, with its default where it is not given. Raises `UsageError` SC065 for one unknown."""
        known = {o.name: o.default for o in self.options}
        if unknown := sorted(set(options) - set(known)):
            has = ", ".join(known) or "none"
            raise UsageError("SC065", f"the target {self.name} has no option {', '.join(unknown)} (it has {has})")
        return known | dict(options)

    def check(self, graph: Graph) -> None:
        """Raise one error that lists every op that this target lacks, by module path (exit status 4)."""
        found = [(op, why) for op in graph.ops if (why := self.illegal(op)) is not None]
        if found:
            where = [f"{op.loc}: {op.kind}: {why}" for op, why in found]
            raise UnsupportedError(
                "SC300",
                f"{self.name} lacks {len(found)} of {len(graph)} ops",
                where,
                [f"speechc ops shows what {self.name} can do; another target may have them"],
            )


def register(target: Target) -> Target:
    """Make a plugin's target known by its name, when the plugin is imported. Raises `TypeError` for a name taken."""
    if target.name in TARGETS or target.name in PLUGGED:
        raise TypeError(f"two targets are called {target.name}")
    PLUGGED[target.name] = target
    return target


def target(name: str) -> Target:
    """The target called `name`, from its folder or from an installed plugin. Raises `UsageError` SC012."""
    plugins.load()
    if name in TARGETS:
        return importlib.import_module(f".{name}", __package__).target
    if name in PLUGGED:
        return PLUGGED[name]
    raise UsageError("SC012", f"there is no target {name}", hints=[f"one of {', '.join(available())}"])


def available() -> list[str]:
    """Names of all targets: the folders here, then those of installed plugins."""
    plugins.load()
    return [*TARGETS, *PLUGGED]


def needs(package: str, extra: str):
    """Import a package that only one target needs; a clear error with the command that installs it (exit status 8)."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingError(
            "SC800", f"the package {package} is missing ({error})", hints=[f"pip install 'speechc[{extra}]'"]
        ) from None

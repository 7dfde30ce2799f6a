"""Which features are meant, as text: `kaldi-fbank{bins=80}+cumulative`, a front end and what is done to its frames.

Options are annotated fields, as those of passes are, and every front end and every stage behind it is registered when
its class is defined. Words need no quotes: `log-mel{like=librosa, bins=64}`.
"""

from __future__ import annotations

import ast
import math
import re
from abc import ABC, abstractmethod
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar

from ...ir import plugins
from ...ir.errors import UsageError
from ...ir.expr import Size
from ...ir.graph import Builder, Loc, Op, Value
from ...ir.types import split_commas
from .bands import Framing

PATH = "front-end"  # the module path that ops of a front end have
FRONT_ENDS: dict[str, type[FrontEnd]] = {}
BEHIND: dict[str, type[Behind]] = {}
LISTED = "speechc front-ends lists all of them"


def after(option: str, default: Any) -> Any:
    """The default of an option that stands behind an inherited one: texts and hashes have options in order."""
    return field(default=default, metadata={"after": option})


class _Part:
    """Base of what a specification names: `name`, annotated fields as options, and the values that each may have."""

    name: ClassVar[str] = ""
    choices: ClassVar[dict[str, tuple]] = {}

    @classmethod
    def options(cls) -> list[Field]:
        """The annotated fields in the order of texts: those inherited first, unless one says where (see `after`)."""
        found: list[Field] = []
        for f in fields(cls):
            names = [o.name for o in found]
            place = names.index(f.metadata["after"]) + 1 if "after" in f.metadata else len(found)
            found.insert(place, f)
        return found

    def checked(self) -> None:
        """Raise `UsageError` SC072 where options do not go together."""
        for f in self.options():
            value = getattr(self, f.name)
            if f.name in self.choices and value not in self.choices[f.name]:
                self.refuse(f"{f.name} is one of {', '.join(map(str, self.choices[f.name]))}, not {value}")
            if not _fits(value, str(f.type)):
                self.refuse(f"{f.name}={_word(value)} is not {str(f.type).replace('|', 'or')}")

    def refuse(self, why: str) -> None:
        """Raise `UsageError` SC072."""
        raise UsageError("SC072", f"{self.name}: {why}", hints=[LISTED])

    def given(self, every: bool = False) -> dict[str, Any]:
        """The options that are not the default ones, or all of them."""
        values = {f.name: getattr(self, f.name) for f in self.options()}
        return values if every else {f.name: values[f.name] for f in self.options() if values[f.name] != f.default}

    def text(self, every: bool = False) -> str:
        """As a specification says it."""
        given = [f"{n}={_word(v)}" for n, v in self.given(every).items()]
        return self.name + ("{" + ",".join(given) + "}" if given else "")

    def content(self) -> str:
        """All that the definition depends on, for its hash: the options, and what they refer to."""
        return self.text(every=True)


def _registered(cls: type, table: dict[str, type]) -> None:
    if "name" not in cls.__dict__:
        return
    if cls.name in table and table[cls.name].__module__ != cls.__module__:
        raise TypeError(f"two front ends, or stages behind one, are called {cls.name}")
    table[cls.name] = dataclass(frozen=True)(cls)


class FrontEnd(_Part, ABC):
    """From audio f32[N, samples] to features f32[N, frames, bins]. A subclass with a `name` is registered.

    It has a field `sample_rate` in Hz, and says how it frames (`framing`), how many features a frame has (`width`) and
    how they are computed (`features`).
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _registered(cls, FRONT_ENDS)

    @abstractmethod
    def framing(self) -> Framing:
        """How the signal is cut into frames."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Features of a frame."""

    @abstractmethod
    def features(self, g: Builder, x: Value, place: Place) -> Value:
        """The features of audio x."""

    def fixed(self, part: str) -> list[FrontEnd]:
        """The front ends without the need of the whole utterance that its op at `part` has."""
        return []


class Behind(_Part, ABC):
    """From features f32[N, frames, bins] to others: a normalisation. A subclass with a `name` is registered."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _registered(cls, BEHIND)

    def frames(self, frames: Size) -> Size:
        """How many frames come out."""
        return frames

    def before(self, frames: Size) -> Size:
        """The fewest frames that give so many."""
        return frames

    def wide(self, width: int) -> int:
        """Features of a frame, where `width` go in. Raises `UsageError` SC072 where that does not fit."""
        return width

    @property
    def stride(self) -> int:
        """Frames that go in for every one that comes out."""
        return 1

    @abstractmethod
    def features(self, g: Builder, x: Value, place: Place) -> Value:
        """The features of features x."""

    def fixed(self, part: str) -> list[Behind]:
        """What may stand in its place in a stream."""
        return []


@dataclass(frozen=True)
class Place:
    """Where the ops of one part of a specification are: `at("maximum")` gives the location of one of its ideas."""

    text: str
    index: int

    def at(self, part: str) -> Loc:
        """A location: its path says which part, its class the specification."""
        return Loc(f"{PATH}.{self.index}.{part}", self.text)


@dataclass(frozen=True)
class Spec:
    """A front end and the stages behind it."""

    front: FrontEnd
    behind: tuple[Behind, ...] = field(default=())

    @property
    def parts(self) -> tuple[_Part, ...]:
        """All of them, in order."""
        return (self.front, *self.behind)

    def __str__(self) -> str:
        return self.text()

    def text(self, every: bool = False) -> str:
        """As text that `parse` reads back; `every`: with all options."""
        return "+".join(p.text(every) for p in self.parts)

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        return self.front.sample_rate

    @property
    def width(self) -> int:
        """Features of a frame."""
        width = self.front.width
        for p in self.behind:
            width = p.wide(width)
        return width

    @property
    def shift(self) -> int:
        """Samples from one frame to the next."""
        shift = self.front.framing().hop
        for p in self.behind:
            shift *= p.stride
        return shift

    def frames(self, samples: Size) -> Size:
        """How many frames there are of a signal."""
        frames = self.front.framing().frames(samples)
        for p in self.behind:
            frames = p.frames(frames)
        return frames

    def samples(self, frames: Size) -> Size:
        """The fewest samples that give so many frames."""
        for p in reversed(self.behind):
            frames = p.before(frames)
        return self.front.framing().samples(frames)

    @property
    def least(self) -> int:
        """The fewest samples that give a frame."""
        return max(self.front.framing().least, self.samples(1))

    def build(self, g: Builder, x: Value) -> Value:
        """f32[N, samples] -> f32[N, frames, width]."""
        text = self.text()
        for index, p in enumerate(self.parts):
            place = Place(text, index)
            with g.at(place.at(p.name)):
                x = p.features(g, x, place)
        return x

    def ways_out(self, path: str) -> list[str]:
        """Specifications without the need of the whole utterance that the op at module path `path` has."""
        _, index, part = path.split(".", 2)
        found = self.parts[int(index)].fixed(part)
        swap = lambda new: [new if i == int(index) else p for i, p in enumerate(self.parts)]
        return [str(Spec(first, tuple(rest))) for first, *rest in map(swap, found)]


def registered() -> tuple[dict[str, type[FrontEnd]], dict[str, type[Behind]]]:
    """Every front end, and every stage that may stand behind one, by name; those of plugins included."""
    from . import kaldi, log_mel, normalisation, stacking  # noqa: F401  each registers its own

    plugins.load()
    return FRONT_ENDS, BEHIND


def parse(text: str) -> Spec:
    """The front end that a text names.

    Raises `UsageError`: SC070 for a text that is none, SC071 for names, SC072 for options that there are not.
    """
    front_ends, behind = registered()
    first, *rest = _parts(text)
    front = _made(first, front_ends, "front end")
    made = Spec(front, tuple(_made(p, behind, "stage behind a front end") for p in rest))
    made.width  # noqa: B018  raises where stages do not fit
    return made


def _parts(text: str) -> list[str]:
    """`a{…}+b{…}` at each + outside braces."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "{([") - (c in "})]")
        if c == "+" and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def _made(text: str, table: dict[str, type], what: str):
    found = re.fullmatch(r"\s*([\w-]+)\s*(?:\{(.*)\})?\s*", text, re.S)
    if not found:
        raise UsageError("SC070", f"not a {what}: {text!r}", hints=["name or name{option=value}, as in mfcc{bins=13}"])
    cls = table.get(found[1])
    if cls is None:
        known = f"one of {', '.join(sorted(table))}"
        raise UsageError("SC071", f"there is no {what} {found[1]}", hints=[known, LISTED])
    known, given = {f.name: str(f.type) for f in cls.options()}, {}
    for part in split_commas(found[2] or ""):
        name, equals, value = (s.strip() for s in part.partition("="))
        if not equals or name in given:
            raise UsageError("SC070", f"{cls.name}: {part!r} is not option=value")
        if name not in known:
            has = ", ".join(sorted(known)) or "none"
            raise UsageError("SC072", f"{cls.name} has no option {name} (it has {has})", hints=[LISTED])
        given[name] = _real(_value(value), known[name])
    made = cls(**given)
    made.checked()
    return made


def _value(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return tuple(value) if isinstance(value, list) else value


def _real(value: Any, annotation: str) -> Any:
    """A whole number where a real one is wanted as a real one: equal options have equal texts, and equal hashes."""
    names = [n.strip() for n in annotation.split("|")]
    real = isinstance(value, int) and not isinstance(value, bool) and "float" in names and "int" not in names
    return float(str(value)) if real else value


def _word(value: Any) -> str:
    """A value as `_value` reads it back, without a space: locations of ops hold specifications."""
    if isinstance(value, tuple):
        return "(" + "".join(f"{v!r}," for v in value) + ")"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_./][\w./-]*", value)
    return value if plain and value not in ("None", "True", "False") else repr(value).replace(" ", "\\x20")


def _fits(value: Any, annotation: str) -> bool:
    """Whether a value is of an annotated type: a number where a real one is wanted may be whole."""
    for name in (n.strip() for n in annotation.split("|")):
        match name:
            case "None" if value is None:
                return True
            case "bool" if isinstance(value, bool):
                return True
            case "int" if isinstance(value, int) and not isinstance(value, bool):
                return True
            case "float" if isinstance(value, int | float) and not isinstance(value, bool):
                return math.isfinite(value)
            case "str" if isinstance(value, str):
                return True
            case "tuple" if isinstance(value, tuple) and all(isinstance(n, int | float) for n in value):
                return True
    return False


def ways_out(op: Op) -> list[str]:
    """Flags that take from an op of a front end the need of the whole utterance; none for other ops."""
    if not op.loc.path.startswith(f"{PATH}."):
        return []
    return [f'--front-end "{text}"' for text in parse(op.loc.cls).ways_out(op.loc.path)]

"""What a model of several graphs consists of, as its recipe or its user says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Part:
    """One graph of a model: the module that computes it, and its ports.

    `inputs`: samples (by name) or texts such as `"tokens=i64[1,T]"`; `time_axis` by name of input. `outputs`: names for
    the module's results, in order. `stream`: the frames of a step, for a part that takes tokens one by one. `listens`:
    a part that takes audio, in chunks where the user's streaming flags say so. An input that another part gives out
    under the same name is constant for a whole utterance: what depends on it alone is computed once, behind the part
    that gives it. `keep`: what int8 leaves in float, "front_end, last" where it is not said. `sample`: arrays by name
    that are more like what it will meet than random ones.
    """

    module: Any
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]
    time_axis: Mapping[str, int] | None = None
    stream: int | None = None
    listens: bool = False
    keep: str | None = None
    sample: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Parts:
    """A model of several graphs, by name of part, in the order in which they run.

    `kind` says who runs it ("attention", "transducer"), `decoding` what the search must know, `tokens` the text of
    every token (`spelling` "byte-level": of byte-level BPE). `front_end`: the features that the first part
    takes are computed in its file.
    """

    kind: str
    parts: dict[str, Part]
    decoding: dict[str, Any] = field(default_factory=dict)
    tokens: list[str] | None = None
    spelling: str = "plain"
    sample_rate: int | None = None
    front_end: str | None = None
    name: str = "model"
    digest: str = ""
    notes: list[str] = field(default_factory=list)

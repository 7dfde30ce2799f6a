"""What a compilation is asked to do; the command line and `speechc.compile` fill it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..ir.errors import UsageError
from ..lowering.target import SUFFIXES, available
from ..lowering.target import target as find_target
from .streaming import Streaming


@dataclass
class Settings:
    """What a compilation is asked to do; the command line and `speechc.compile` fill it."""

    target: str = "onnx"
    precision: str | None = None  # what the target makes where nothing is said
    calibration: Any = None
    output: Path | None = None
    name: str | None = None
    min_snr: float | None = None
    options: dict[str, object] = field(default_factory=dict)
    integer_ports: bool = False  # int8 with calibration: inputs and outputs of the file are integers too
    passes: list[str] | None = None  # instead of the plan
    verify_each: str = "types"
    print_after: str | None = None
    dump: Path | None = None
    limit: int | None = None
    sample_rate: int | None = None
    streaming: Streaming = field(default_factory=Streaming)
    keep: str | None = None  # of what int8 leaves in float ("front_end, last"): parts that give no scores have no last
    ctc: int | None = None  # the blank: `tokens`, decoded greedily from the log-probabilities, as one output more
    front_end: str | None = None  # features that the file computes of audio
    features: str | None = None  # features that the file takes, told in its manifest
    detect: Mapping[str, Any] | None = None  # how its scores are read as detections: `spans.OPTIONS`


def for_targets(settings: Settings, names: Iterable[str] | None = None) -> list[Settings]:
    """The settings for each of several targets (all of them by default), each with those options that it has.

    Raises `UsageError` SC065 for an option that none of them has, SC011 where the output is no folder.
    """
    targets = [find_target(name) for name in names or available()]
    own = {t.name: {o.name for o in t.options} for t in targets}
    unknown = set(settings.options).difference(*own.values())
    if unknown:
        raise UsageError("SC065", f"none of {', '.join(own)} has an option {', '.join(sorted(unknown))}")
    if settings.output is not None and settings.output.suffix in SUFFIXES and not settings.output.is_dir():
        raise UsageError("SC011", f"{settings.output} is one file; several targets want a folder after -o")
    return [
        replace(settings, target=name, options={k: v for k, v in settings.options.items() if k in has})
        for name, has in own.items()
    ]

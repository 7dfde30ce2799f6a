"""Small models for tests, one builder each: `MODELS[name]()` gives a `Case`, `LENGTHS[name]` three lengths to check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

MODELS: dict[str, Callable[[], Case]] = {}
LENGTHS: dict[str, tuple[int, ...]] = {}


class Case(NamedTuple):
    """A model in eval mode, sample inputs by name, the time axis, and `make_inputs(length)` (numpy, seeded)."""

    module: Any
    inputs: dict[str, Any]
    time_axis: int | dict[str, int] | None
    make_inputs: Callable[[int], dict[str, Any]]


def model(name: str, lengths: tuple[int, ...]):
    """Register a builder; none of `lengths` is the sample's own (unless the model accepts only that one)."""

    def register(build: Callable[[], Case]) -> Callable[[], Case]:
        MODELS[name], LENGTHS[name] = build, lengths
        return build

    return register


def case(module, shapes: dict[str, tuple], time_axis, length: int, batch: int = 1) -> Case:
    """A `Case` for float inputs: `shapes` holds integers, and "T" where the length goes."""
    import numpy as np
    import torch

    def make_inputs(length: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(length)
        return {
            name: random.standard_normal([length if s == "T" else s for s in shape], dtype=np.float32)
            for name, shape in shapes.items()
        }

    sample = {name: torch.from_numpy(a) for name, a in make_inputs(length).items()}
    return Case(module.eval(), sample, time_axis, make_inputs)


from . import convolutional, pretrained, recurrent, signal, transformer  # noqa: E402, F401  registers the builders

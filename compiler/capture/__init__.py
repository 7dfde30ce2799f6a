"""Capture: from a PyTorch model, in any of the forms people keep one, to an IR module.

Importing this package does not import torch; calling `capture` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from ...ir.graph import Module

    Reference = Callable[[Mapping[str, np.ndarray]], tuple[np.ndarray, ...]]


def capture(
    model, inputs=None, time_axis: int | Mapping[str, int] | None = 1, weights=None, trust_pickle: bool = False
) -> Module:
    """The IR module of a model; see `capture_with_reference`."""
    return capture_with_reference(model, inputs, time_axis, weights, trust_pickle)[0]


def capture_with_reference(
    model, inputs=None, time_axis: int | Mapping[str, int] | None = 1, weights=None, trust_pickle: bool = False
) -> tuple[Module, Reference]:
    """The IR module of a model, and the original to compare it with.

    `model` is an `nn.Module`, a script, an `ExportedProgram`, the path of a file (an archive of torch.export, a
    TorchScript file, a pickled module that is trusted), or `package.module:factory`; `inputs` sample arrays or tensors
    (by name, or in the order of `forward`), or texts such as `features=f32[1,T,80]`, or None where the file brings its
    own. An argument that is always the same number (a sample rate, a flag) is given as such: `sr=16000` among texts, a
    Python number among samples; it is no input of the graph. `time_axis` says which axis of the samples is time: one
    number for a single input, by name for several, None where nothing may vary. The reference maps named arrays to a
    tuple of arrays, in the order of the module's outputs.

    Raises `CaptureError` (exit status 3) where the model cannot be read or captured, `UsageError` where the inputs do
    not make sense.
    """
    from .entry import run

    return run(model, inputs, time_axis, weights, trust_pickle)


def used_operators(model, inputs=None, time_axis=1, weights=None, trust_pickle: bool = False):
    """What `speechc ops --used` lists: (operator, module path, whether capture knows it), in order of first use."""
    from .entry import operators

    return operators(model, inputs, time_axis, weights, trust_pickle)

"""The input of a file that takes audio: samples as it wants them, and how many it takes."""

from __future__ import annotations

import numpy as np

from ..ir.errors import UsageError
from ..ir.expr import Size, evaluate, parse_size, symbols
from ..ir.registry import quantized
from ..ir.types import DTYPES
from ..lowering.manifest import Manifest, Port
from ..lowering.streaming import CLOCK_INPUT
from .front_end import features_of


def model_inputs(manifest: Manifest) -> list[Port]:
    """The inputs that a model has itself: without the counter of a step file."""
    return [p for p in manifest.inputs if p.name != CLOCK_INPUT or p.time is not None]


def audio_port(manifest: Manifest) -> Port:
    """The only input, which takes samples. Raises `UsageError` SC110 for several inputs, SC034 for features."""
    ports = model_inputs(manifest)
    if len(ports) != 1:
        names = ", ".join(p.name for p in ports)
        raise UsageError("SC110", f"audio is one array; the file takes {names}", hints=["an .npz with all of them"])
    (port,) = ports
    axis = time_axis(port)
    if any(isinstance(n, int) and n > 1 for i, n in enumerate(port.shape) if i not in (axis, 0)):
        raise UsageError(
            "SC034",
            f"{port.name} takes features ({port.dtype}{port.shape}), not audio",
            hints=["compile it with --front-end SPEC, or --features SPEC", ".npy or .npz features"],
        )
    if manifest.sample_rate is None:
        raise UsageError("SC034", "the file does not say its sample rate", hints=["compile it with --sample-rate HZ"])
    return port


def feature_port(manifest: Manifest) -> Port | None:
    """The only input, where the manifest says which features of audio it takes (`--features`); None: another file."""
    known, ports = manifest.features, model_inputs(manifest)
    if known is None or known["inside"] or [p.name for p in ports] != [known["input"]]:
        return None
    return ports[0]


def features_laid_out(samples: np.ndarray, manifest: Manifest, port: Port) -> np.ndarray:
    """The features of a whole recording, float32[n], in the layout and element type of the input that takes them."""
    frames = features_of(manifest, samples[None])[0]
    time = time_axis(port)
    bins = next(i for i, n in enumerate(port.shape) if i != time and n == frames.shape[1])
    array = frames if time < bins else frames.T
    array = array.reshape([array.shape[0 if i == min(time, bins) else 1] if i in (time, bins) else 1
                           for i in range(len(port.shape))])  # fmt: skip
    return stored(array, port)


def time_axis(port: Port) -> int:
    """The axis of samples."""
    return port.time["axis"] if port.time else len(port.shape) - 1


def laid_out(samples: np.ndarray, port: Port) -> np.ndarray:
    """Samples float32[n] in the layout and element type of an input; on its grid where it is quantized."""
    axis = time_axis(port)
    return stored(samples.reshape([len(samples) if i == axis else 1 for i in range(len(port.shape))]), port)


def stored(array: np.ndarray, port: Port) -> np.ndarray:
    """Real numbers as an input holds them: on its grid where it is quantized."""
    if port.quant is not None:
        return quantized(array, port.dtype, *port.quant)
    return array.astype(DTYPES[port.dtype])


def longest_recording(manifest: Manifest, port: Port) -> int | None:
    """The most samples that a file takes; None: any number."""
    if manifest.streaming is not None:
        return manifest.streaming["max_frames"]
    length = _length(port)
    if isinstance(length, int):
        return None if manifest.states else length
    (name,) = symbols(length)
    most = max(manifest.lengths.get(name) or [manifest.limits.get(name, [None, None])[1] or 0])
    return evaluate(length, {name: most}) if most else None


def taken(frames: int, manifest: Manifest, size: int | str) -> int | None:
    """How many frames, with silence behind, a file takes for a recording of `frames`; None: it is too long for it."""
    length = parse_size(str(size))
    if isinstance(length, int) or len(names := symbols(length)) != 1:
        return frames
    (name,) = names
    least, most = manifest.limits.get(name, [None, None])
    at = lambda n: evaluate(length, {name: n})
    if few := manifest.lengths.get(name):
        return min((n for n in map(at, few) if n >= frames), default=None)
    if most is not None and frames > at(most):
        return None
    return max(frames, at(least)) if least is not None else frames


def _length(port: Port) -> Size:
    return parse_size(str(port.shape[time_axis(port)]))

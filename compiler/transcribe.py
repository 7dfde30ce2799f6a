"""Word error rates of a compilation: the model, the rewritten one and the file, on recordings with texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import SpeechcError, UsageError
from ..ir.graph import Graph, Module
from ..ir.registry import quantized
from ..lowering.manifest import Manifest, Port
from ..lowering.stream_session import BatchSession
from ..lowering.streaming import CLOCK_INPUT, RANGE_SUFFIX
from ..lowering.target import Session
from .audio import read_audio
from .audio_port import feature_port, features_laid_out, taken, time_axis
from .ctc import TOKENS, Tokens
from .recordings import Note, counted, left_out
from .samples import Feeds
from .texts import texts_in
from .words import WordErrors, measure, speaking

MOST = 200  # recordings: enough to tell a few tenths of a percent apart
Run = Callable[[Graph, Feeds], tuple[np.ndarray, ...]]


def transcribed(
    reference: Callable[[Feeds], tuple[np.ndarray, ...]],
    rewritten: Module | None,
    load: Callable[[], Session],
    folder: Any,
    run: Run,
    tokens: Tokens | None = None,
) -> WordErrors | None:
    """Word error rates; None where `folder` holds no texts, or the file no tokens.

    `reference` is the model, `rewritten` its graph after rewrites, which `run` runs; a step file is streamed. With
    `tokens` the file's are read, and what they are decoded from of the others.
    """
    listed = texts_in(Path(folder)) if isinstance(folder, (str, Path)) else []
    if not listed:
        return None
    session = load()
    manifest = session.manifest
    inputs = [p for p in manifest.inputs if p.name != CLOCK_INPUT]
    name = speaking(manifest.outputs, manifest.tokens)
    if name is None or len(inputs) != 1:
        return None
    (port,) = inputs
    names = [p.name for p in manifest.outputs if not p.name.endswith(RANGE_SUFFIX)]
    at = names.index(name)
    if tokens is None or name != TOKENS:
        said = lambda outputs: outputs[at]
    else:
        said = lambda outputs: tokens.decoded(outputs[names.index(tokens.scores)])
    samples, left = [], []
    for path, text in listed[:MOST]:
        try:
            audio = as_taken(read_audio(path, manifest.sample_rate), manifest, port)
        except SpeechcError as error:
            left.append(Note(left_out(str(path), error).kind, ""))
            continue
        if text.split():
            samples.append((audio, text))
        else:
            left.append(Note("text with nothing in it", ""))
    if not samples:
        return WordErrors({}, 0, 0, counted(left))
    stored = lambda audio: audio if port.quant is None else quantized(audio, port.dtype, *port.quant)
    runs = {"model": lambda audio: said(reference({port.name: audio}))}
    if rewritten is not None:
        graph = next(iter(rewritten.graphs.values()))
        runs["rewritten"] = lambda audio: said(run(graph, {port.name: audio}))
    if manifest.streaming is None:
        runs["file"] = lambda audio: session.run(stored(audio))[at]
    else:
        stream = BatchSession(session).streams[0]
        time = manifest.outputs[[p.name for p in manifest.outputs].index(name)].time["axis"]

        def streamed(audio: np.ndarray) -> np.ndarray:
            stream.reset()
            return np.concatenate([stream.push(stored(audio))[at], stream.flush()[at]], time)

        runs["file, streamed"] = streamed
    found = measure(runs, samples, manifest.tokens, None if tokens is None else tokens.blank)
    return replace(found, left_out=counted(left))


def as_taken(audio: np.ndarray, manifest: Manifest, port: Port) -> np.ndarray:
    """A recording, float32[n], or its features, as the input of a file takes it: with silence behind a shorter one.

    Raises `UsageError` SC112 for one that is too long.
    """
    axis = time_axis(port)
    if feature_port(manifest) is not None:
        made = features_laid_out(audio, manifest, replace(port, quant=None, dtype="f32"))
    else:
        made = audio.reshape([-1 if i == axis else 1 for i in range(len(port.shape))])
    frames, size = made.shape[axis], port.shape[axis]
    if manifest.streaming is not None:
        most = manifest.streaming["max_frames"]
        wanted = frames if most is None or frames <= most else None
    elif isinstance(size, int):
        wanted = size if frames <= size else None
    else:
        wanted = taken(frames, manifest, size)
    if wanted is None or (wanted > frames and feature_port(manifest) is not None):  # features have no silence
        raise UsageError("SC112", f"{frames} frames are more than the file takes, or fewer features")
    return np.pad(made, [(0, wanted - frames if i == axis else 0) for i in range(made.ndim)])

"""Front ends of a compilation: put in front of the model (`--front-end`), or told in the manifest (`--features`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from ..ir.errors import UsageError
from ..ir.expr import symbol
from ..ir.graph import Builder, Graph, Loc, Module
from ..ir.interpreter import bind_sizes
from ..ir.interpreter import run as interpret
from ..ir.types import Tensor, time_input
from ..lowering.manifest import Manifest
from ..passes.add_front_end import AUDIO, SAMPLES, AddFrontEnd, Port, feature_port
from ..passes.base import Context
from ..passes.front_end.reference import facts, features, signal
from ..passes.front_end.spec import PATH, Spec, parse
from .samples import resized
from .settings import Settings
from .subject import Subject


def prepared(subject: Subject, settings: Settings) -> Subject:
    """`subject` as the settings want its features: computed inside the file, or known by name.

    Raises `UsageError` SC070 to SC075 where they do not fit the model or one another.
    """
    if settings.front_end is None and settings.features is None:
        return subject
    if settings.front_end is not None and settings.features is not None:
        raise UsageError(
            "SC075",
            "--front-end computes the features inside the file, --features says that it takes them",
            hints=["leave one of them out"],
        )
    spec = parse(settings.front_end or settings.features)
    _check_rate(spec, settings, subject.module)
    return with_front_end(subject, spec) if settings.front_end is not None else with_features(subject, spec)


def _check_rate(spec: Spec, settings: Settings, module: Module) -> None:
    known = {"--sample-rate": settings.sample_rate, "the model's sample rate": module.meta.get("sample_rate")}
    for what, rate in known.items():
        if rate not in (None, spec.sample_rate):
            raise UsageError(
                "SC075",
                f"{spec} is for audio at {spec.sample_rate} Hz, {what} is {rate} Hz",
                hints=[f"sample_rate={rate} in the specification, where the front end has it"],
            )


def with_front_end(subject: Subject, spec: Spec) -> Subject:
    """The model behind a front end: its first graph takes audio, and so does what it is compared with."""
    graph, meta = next(iter(subject.module.graphs.values())), subject.module.meta
    port, original = feature_port(graph, spec), subject.reference
    alone, sizes = Alone(spec, port), bind_sizes(graph, subject.sample)
    samples = max(spec.least, spec.samples(subject.sample[port.value.name].shape[port.frames]))
    AddFrontEnd(str(spec)).run(graph, Context(meta=meta))
    graph.sweep()
    (audio,) = [v for v in graph.inputs if v.name not in subject.sample or v.name == port.value.name]
    meta["features"] = facts(spec, audio.name, inside=True)
    sample = subject.sample | {audio.name: signal(spec.sample_rate, samples)[None]}
    sample = resized(sample, graph, sizes | {SAMPLES: samples})
    others = lambda feeds: {n: a for n, a in feeds.items() if n != audio.name}
    inner = lambda feeds: others(feeds) | {port.value.name: alone(feeds[audio.name])}
    reference = lambda *calls: original(*map(inner, calls))
    return replace(subject, reference=reference, sample=sample)


def with_features(subject: Subject, spec: Spec) -> Subject:
    """The model as it is, its features known: the manifest says which, and recordings can be turned into them."""
    graph, meta = next(iter(subject.module.graphs.values())), subject.module.meta
    port = feature_port(graph, spec)
    meta["features"] = facts(spec, port.value.name, inside=False)
    meta["sample_rate"] = spec.sample_rate
    meta["tick_hz"] = str(Fraction(spec.sample_rate, spec.shift))
    return subject


class Alone:
    """A front end on its own: audio f32[N, samples] to the features that an input takes, in its layout."""

    def __init__(self, spec: Spec, port: Port):
        self.graph = Graph("features")
        audio = self.graph.input(AUDIO, Tensor("f32", [port.batch, time_input(symbol(SAMPLES), AUDIO)]))
        g = Builder(self.graph, Loc(PATH, str(spec)))
        self.graph.output(port.shaped(g, spec.build(g, audio)), port.value.name)

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        return interpret(self.graph, {AUDIO: np.asarray(audio, np.float32)})[0]


def hearing(module: Module) -> Callable[[Any], Any]:
    """Makes of a recording f32[1, samples] the features that `--features` says the model takes; leaves others alone."""
    known = module.meta.get("features")
    if known is None or known["inside"]:
        return lambda sample: sample
    port = feature_port(next(iter(module.graphs.values())), spec := parse(known["asked"]), known["input"])
    alone = Alone(spec, port)
    audio = lambda sample: isinstance(sample, np.ndarray) and sample.ndim == 2 and port.value.type.rank != 2
    return lambda sample: alone(sample) if audio(sample) else sample


def features_of(manifest: Manifest, audio: np.ndarray) -> np.ndarray:
    """The features of audio f32[N, samples] that a file says it takes, f32[N, frames, bins].

    Raises `UsageError` SC034 where it does not say.
    """
    if manifest.features is None:
        raise UsageError(
            "SC034",
            f"{manifest.artefact} does not say which features it takes",
            hints=["compile it with --features SPEC, or --front-end SPEC"],
        )
    return features(parse(manifest.features["asked"]), audio)

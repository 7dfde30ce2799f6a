"""`speechc verify`: a file tried beside its model, looked into, and judged."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import NumericalError, SpeechcError
from ...ir.graph import Graph
from ...ir.text import clone
from ...lowering.inside import Inside
from ...lowering.manifest import Manifest
from ...lowering.target import Target
from ...lowering.target import target as find_target
from ..batch import by_rows, fixed_batch
from ..check import FLOAT32, MIN_SNR, worst
from ..ctc import compared
from ..driver import manifest_of
from ..front_end import prepared
from ..in_turn import interpreted, joined
from ..numerics import Difference, difference
from ..recordings import Summary
from ..samples import real_outputs, stored_feeds
from ..subject import Subject
from .along import along
from .calls import Recorder, heard
from .outputs import compare
from .rebuild import Rebuilt, asked_for, rebuild
from .stored import changed
from .trials import MOST, Trial, trials
from .verdict import Trial as Tried
from .verdict import Verdict
from .walk import Walk, walk

CALLS = 8  # of a step file that are looked into, from the first on

Outputs = dict[str, np.ndarray]


@dataclass
class Asked:
    """What a verification is asked to do."""

    audio: Path | None = None
    calibration: Any = None
    sample_rate: int | None = None
    min_snr: float | None = None
    most: int = MOST
    inside: bool = True
    threads: int | None = None


def verify(
    subject: Subject, model: str, path: Path, asked: Asked, progress: Callable[[str], None] = lambda what: None
) -> Verdict:
    """Try the file at `path` beside the model `subject`, which is called `model`; the subject's graph is used up.

    Raises `NumericalError` SC542 for a file of another model, and what compiling the model raises; a file that is not
    near enough is no exception here: `Verdict.error` holds it.
    """
    start = time.perf_counter()
    manifest = manifest_of(path)
    target = find_target(manifest.target)
    _same_ports(next(iter(subject.module.graphs.values())), manifest, model, path)
    with tempfile.TemporaryDirectory(prefix="speechc-") as name:
        folder = Path(name)
        settings = asked_for(manifest, asked.calibration, folder)
        subject = prepared(subject, settings)
        settings = replace(settings, front_end=None, features=None)  # they are in place
        captured = clone(subject.module)
        graph = next(iter(captured.graphs.values()))
        rate = asked.sample_rate or manifest.sample_rate or subject.module.meta.get("sample_rate")
        recordings = Summary()
        found, said = trials(subject, graph, manifest, asked.audio, rate, asked.most, recordings)
        progress(f"compiling {model} again, as {path.name} was")
        built = rebuild(subject, manifest, settings, [t.sample for t in found], progress)
        session = Recorder(target.load(path, asked.threads), CALLS)
        reference, original = _references(built, graph)
        verdict = Verdict(
            model, str(path), manifest.target, manifest.precision, session.runner,
            "the model" if built.stages.normal is None else "the rewritten model",
            *_limit(manifest.precision, asked.min_snr), said, [], notes=built.notes,
            recordings=recordings if asked.audio is not None else None,
        )  # fmt: skip
        calls, lost = [], []
        for trial in found:
            progress(f"running {trial}")
            session.calls = []
            wanted = reference(trial.feeds, *trial.after)
            verdict.trials.append(_tried(built, session, manifest, trial, wanted, asked.min_snr))
            calls.append(session.calls)
            if original is not None:
                lost.append(_loss(reference(trial.feeds), original(trial.feeds)))
        verdict.rewrite = worst(lost) if lost else None
        if asked.inside:
            _look_inside(verdict, built, path, target, _telling(verdict, calls), folder, progress)
    verdict.seconds = time.perf_counter() - start
    return verdict


def _same_ports(graph: Graph, manifest: Manifest, model: str, path: Path) -> None:
    """Raise `NumericalError` SC542 where a file has not the outputs of a model."""
    names = {p.name for p in manifest.outputs}
    lacking = [name for name in graph.output_names if name not in names]
    if lacking:
        raise NumericalError(
            "SC542",
            f"{path} is no file of {model}: it gives {', '.join(sorted(names))}, not {', '.join(lacking)}",
            hints=["the model and the options (--input) that the file was compiled with"],
        )


def _references(built: Rebuilt, graph: Graph) -> tuple[Callable[..., Outputs], Callable[..., Outputs] | None]:
    """What the file is compared with, and the model as it was where that is something else."""
    whole = built.stages.whole
    reference = built.subject.reference
    if whole is not None:
        reference = by_rows(reference, fixed_batch(graph), next(iter(whole.graphs.values())))
    own = lambda *calls: dict(zip(graph.output_names, reference(*calls)))
    if built.stages.normal is None:
        return own, None
    rewritten = next(iter(built.stages.rewritten.graphs.values()))
    run = built.together.context.run
    given = lambda *calls: run(rewritten, *calls) if len(calls) == 1 else interpreted(rewritten, *calls)
    return lambda *calls: dict(zip(rewritten.output_names, given(*calls))), own


def _loss(rewritten: Outputs, original: Outputs) -> Difference:
    shared = [n for n in original if n in rewritten and rewritten[n].shape == original[n].shape]
    return difference([rewritten[n] for n in shared], [original[n] for n in shared])


def _limit(precision: str, min_snr: float | None) -> tuple[str, float | None]:
    if precision == "float32" and min_snr is None:
        return f"at most {FLOAT32:g} is rounding", None
    least = min_snr if min_snr is not None else MIN_SNR.get(precision, 0.0)
    return f"at least {least:g} dB wanted", least


def _tried(built: Rebuilt, session: Recorder, manifest: Manifest, trial: Trial, wanted: Outputs, min_snr) -> Tried:
    """Both on one input. Tokens are held to the file's own scores, as when it was compiled."""
    final = next(iter(built.module.graphs.values()))
    given = heard(session, stored_feeds(final, trial.feeds))
    turns = [given, *(session.run_named(stored_feeds(final, f)) for f in trial.after)]
    given = dict(zip(given, joined([list(outputs.values()) for outputs in turns])))
    real = _real(final, given)
    names = list(wanted)
    if built.together.tokens is not None:
        kept = list(real)
        built.together.tokens.check(kept, [real[n] for n in kept], final)
        names = [n for n in compared(built.together.tokens, names, names)]
    wanted = {n: _row_of(wanted[n], real[n], manifest, n) for n in names if n in real}
    outputs = compare(manifest.outputs, real, wanted)
    seen = worst(o.found for o in outputs)
    least = _limit(manifest.precision, min_snr)[1]
    good = seen.error <= FLOAT32 if least is None else seen.snr >= least
    return Tried(trial.name, trial.lengths, outputs, bool(good))


def _real(final: Graph, given: Outputs) -> Outputs:
    """Outputs as the real numbers that they stand for."""
    alone = Graph(final.name, final.weights)
    names = [n for n in final.output_names if n in given]
    for v, name in zip(final.outputs, final.output_names):
        if name in given:
            alone.output(v, name)
    return dict(zip(names, real_outputs(alone, [given[n] for n in names])))


def _row_of(wanted: np.ndarray, given: np.ndarray, manifest: Manifest, name: str) -> np.ndarray:
    """The model's output as a file gives it: of the first stream, at every frame, or at the last one alone."""
    if wanted.ndim == given.ndim and manifest.streaming is not None and manifest.streaming["batch"] > 1:
        axis = next((p.batch_axis for p in manifest.outputs if p.name == name), None)
        if axis is not None and wanted.shape[axis] > given.shape[axis]:
            return wanted.take(range(given.shape[axis]), axis)
    return wanted


def _telling(verdict: Verdict, calls: list) -> list:
    """The calls of the shortest trial that fails, else of the shortest."""
    size = lambda i: sum(a.size for c in calls[i] for a in c.feeds.values())
    bad = [i for i, t in enumerate(verdict.trials) if not t.good]
    return calls[min(bad or range(len(calls)), key=size)]


def _look_inside(verdict: Verdict, built: Rebuilt, path: Path, target: Target, calls, folder: Path, progress) -> None:
    """Every stored array and every op, as far as the target shows them."""
    progress("looking at every op")
    options = built.settings.options
    inside = target.inside(path, built.module, verdict.precision, options)
    if inside is None:
        verdict.notes.append(f"{verdict.runner} shows outputs alone: where along the graph they part is not known")
        return
    names = set(inside.names.values())
    verdict.values, verdict.missing = len(names), len(names - inside.tensors)
    if verdict.missing:
        verdict.notes.append(f"{verdict.missing} of {verdict.values} values that the model compiles to are not in the "
                             "file: it is of another model, other options or another version")  # fmt: skip
    graph, plain = (next(iter(m.graphs.values())) for m in (built.module, built.plain))
    if built.exact:
        verdict.changed = _stored(inside, built, target, path, folder, graph)
    verdict.walk = _walked(verdict, graph, plain, inside, calls, folder) if built.calibrated else None
    verdict.rows = along(verdict.walk) if verdict.walk else []
    first = verdict.first
    if first is not None and verdict.good:
        verdict.notes.append(f"{first.loc}: {first.op} is not what the graph says ({first.own}), though the outputs "
                             "are near enough")  # fmt: skip


def _stored(inside: Inside, built: Rebuilt, target: Target, path: Path, folder: Path, graph: Graph):
    again = folder / path.name
    target.emit(built.module, again, built.settings.precision or target.default, built.settings.options)
    other = target.inside(again, built.module, built.settings.precision or target.default, built.settings.options)
    return None if other is None else changed(inside, other, graph)


def _walked(verdict: Verdict, graph: Graph, plain: Graph, inside: Inside, calls, folder: Path) -> Walk | None:
    """The walk; None, and a note, for a file whose values do not fit the graph."""
    try:
        return walk(graph, plain, inside, calls, folder)
    except SpeechcError as error:
        verdict.notes.append(f"the file cannot be looked into: {error.message}")
        return None

"""Compilations from start to end: capture, passes, legality, emission, proof, and nothing half-written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..ir.errors import SpeechcError, UnsupportedError, UsageError
from ..ir.graph import Loc, Module
from ..ir.interpreter import bind_sizes
from ..ir.text import clone
from ..ir.turns import calls_in
from ..lowering.manifest import Manifest, manifest_path
from ..lowering.target import Session, Target
from ..lowering.target import target as find_target
from ..passes.base import Context, Pass, make, registered
from .batch import by_rows, fixed_batch
from .bisect import Culprit, bisect, smallest
from .calibration import calibration_feeds
from .check import FLOAT32, MIN_SNR, meaning, prove
from .check_stream import layout, loss_feeds, prove_stream, rewrite_loss, stream_feeds
from .ctc import TOKENS, ctc_pass, tokens_of
from .dump import DumpDir, PrintAfter
from .durations import in_time, tick_rate
from .executor import Executor
from .front_end import prepared
from .inventory import beside, inventory
from .localise import first_divergence
from .manager import Manager, Step
from .place import Workshop, deliver, output_path, size_of
from .plan import plan
from .recipe import recipe
from .recordings import Summary
from .reduce import write_reproducer
from .report import Report
from .samples import Feeds, at_lengths, fitting, stored_feeds
from .settings import Settings
from .spans import detection
from .stages import Stages
from .streamed import describe
from .streaming import Streaming, rewrites, step_pass
from .subject import Subject, limits, most_frames, read_subject
from .transcribe import transcribed

__all__ = ["Report", "Settings", "Streaming", "Subject", "build", "build_all", "manifest_of", "open_artefact",
           "read_subject"]  # fmt: skip

Progress = Callable[[str], None]
MARGIN = 1.5  # dB: what is proven is proven on other samples than those that chose what stays in float
RUN_TIME_SCALES = (
    "activations are quantized at run time, as no recordings were given; --calibrate DIR fixes their scales"
)


def precision_of(settings: Settings, target: Target) -> str:
    """What the file is to be: as asked, or what the target makes where nothing is said."""
    return settings.precision or target.default


def planned(
    subject: Subject, settings: Settings, calibrated: bool, note: Callable[[str], None] = lambda text: None
) -> list[Pass]:
    """The passes of this compilation: the user's list, or the plan of the target and precision."""
    asked = settings.streaming.checked()
    if settings.passes is not None:
        if asked != Streaming(frame_shift=asked.frame_shift):
            raise UsageError("SC017", "--passes replaces the plan: write the streaming passes into it as well")
        if settings.ctc is not None:
            raise UsageError("SC017", "--passes replaces the plan: write greedy-ctc into it instead of --ctc")
        return [make(text) for text in settings.passes]
    target = find_target(settings.target)
    precision = precision_of(settings, target)
    if settings.integer_ports and not (precision == "int8" and calibrated):
        raise UsageError("SC019", "integer inputs and outputs want --int8 and --calibrate: they need fixed scales")
    hz = tick_rate(subject.module, settings.sample_rate, asked.frame_shift)
    step = step_pass(asked, hz, most_frames(subject.module)) if asked.wanted else None
    ports = [] if settings.ctc is None else [ctc_pass(next(iter(subject.module.graphs.values())), settings.ctc)]
    changes = rewrites(asked, hz)
    least = MIN_SNR.get(precision) if settings.min_snr is None else settings.min_snr
    reach = least + MARGIN if least else None
    return plan(target, precision, calibrated, settings.integer_ports, changes, step, note, ports, reach, settings.keep)


def build(subject: Subject, settings: Settings, progress: Progress = lambda what: None) -> Report:
    """Compile `subject`; raises a `SpeechcError` (and writes nothing) where it cannot be shown to be right."""
    together = Together(subject, [settings], progress)
    together.begin()
    return together.finish(together.branches[0])


def build_all(
    subject: Subject, settings: Sequence[Settings], progress: Progress = lambda what: None
) -> list[Report | SpeechcError]:
    """Compile `subject` for several targets; passes that their plans begin with in common run once.

    A target that fails keeps none of the others: its place holds the error. What fails for all of them raises.
    """
    together = Together(subject, settings, progress)
    together.begin()
    made: list[Report | SpeechcError] = []
    for branch in together.branches:
        try:
            made.append(together.finish(branch))
        except SpeechcError as error:
            made.append(error)
    return made


@dataclass
class Branch:
    """One target of a compilation: where its file goes, its plan, and what planning noticed."""

    settings: Settings
    target: Target
    final: Path
    plan: list[Pass]
    notes: list[str]

    @property
    def precision(self) -> str:
        """What the file is to be."""
        return precision_of(self.settings, self.target)


class Together:
    """What the targets of one compilation share: samples, feeds to prove with, and the passes up to where they part."""

    def __init__(self, subject: Subject, settings: Sequence[Settings], progress: Progress):
        self.start = time.perf_counter()
        subject = prepared(subject, settings[0])
        self.subject, self.progress = subject, progress
        module = subject.module
        first = settings[0]
        targets = [find_target(s.target) for s in settings]
        finals = [output_path(s, subject.name, t) for s, t in zip(settings, targets)]
        self.graph = next(iter(module.graphs.values()))
        self.calibration = Summary()
        self.samples = calibration_feeds(subject, first, self.calibration)
        self.feeds = [
            f
            for sample in proof_samples(self.samples) or [subject.sample]
            for f in at_lengths(sample, self.graph, limits(module))
        ]
        self.context = Context(Executor(), self.samples, first.limit, trials=[subject.sample])
        for text in module.meta.get("notes", ()):
            self.context.remark("note", "capture", text, Loc(""))
        self.branches = []
        for s, t, final in zip(settings, targets, finals):
            notes: list[str] = []
            self.branches.append(Branch(s, t, final, planned(subject, s, bool(self.samples), notes.append), notes))
        module.meta["sample_sizes"] = bind_sizes(self.graph, stored_feeds(self.graph, subject.sample))
        self.inventory = inventory(module)
        self.batch, self.traced = fixed_batch(self.graph), limits(module)
        self.hz = tick_rate(module, first.sample_rate, first.streaming.frame_shift)
        if self.hz is not None:
            module.meta["tick_hz"] = str(self.hz)
        self.tokens = tokens_of(self.branches[0].plan, self.graph)
        if first.sample_rate is not None:
            module.meta.setdefault("sample_rate", first.sample_rate)
        if first.detect is not None:
            module.meta["detect"] = detection(first.detect)

    def begin(self) -> None:
        """Run what all plans begin with."""
        plans = [b.plan for b in self.branches]
        parted = (i for i, step in enumerate(zip(*plans)) if len(set(map(str, step))) > 1)
        self.done = next(parted, min(map(len, plans)))  # passes that have run for all
        self.stages = Stages(plans[0], self.subject.module)
        settings = self.branches[0].settings
        if len(plans) > 1 and settings.dump:
            settings = replace(settings, dump=settings.dump / "all")
        self.steps = transform(
            self.subject, settings, self.context, plans[0][: self.done], self.progress, [self.stages]
        )
        self.seconds = time.perf_counter() - self.start

    def finish(self, branch: Branch) -> Report:
        """The rest of one target: its own passes, legality, the file, and its proof."""
        start = time.perf_counter()
        settings, target, precision, final = branch.settings, branch.target, branch.precision, branch.final
        alone = len(self.branches) == 1
        subject = self.subject if alone else replace(self.subject, module=clone(self.subject.module))
        context = self.context if alone else self.context.copy()
        for text in branch.notes:
            context.remark("note", "streaming", text, Loc(""))
        stages = self.stages if alone else self.stages.branched(branch.plan, self.done, subject.module)
        if not alone and settings.dump:
            settings = replace(settings, dump=settings.dump / target.name)
        observe = lambda index, *rest: stages(index + self.done, *rest)
        rest = branch.plan[self.done :]
        steps = [*self.steps, *(transform(subject, settings, context, rest, self.progress, [observe]) if rest else ())]
        module = subject.module
        streamed = None
        tokens = self.tokens if TOKENS in next(iter(module.graphs.values())).output_names else None
        if stages.streams:
            streamed = describe(stages, module, settings.streaming, self.hz)
        for g in module.graphs.values():
            target.check(g)
        if "int8" in precision:
            check_integers(module, target.name, context)
            if any(op.attrs.get("dynamic") for g in module.graphs.values() for op in g.ops):
                context.remark("note", "int8", RUN_TIME_SCALES, Loc(""))
        module.meta["notes"] = [r.message for r in context.remarks if r.kind == "note"]
        module.meta["made"] = recipe(settings, precision, self.samples)
        with Workshop(final) as folder:
            self.progress(f"writing {final.name}")
            written = target.emit(module, folder / final.name, precision, settings.options)
            self.progress(f"proving that {final.name} does what the model did")
            ran: list[Session] = []

            def load() -> Session:
                ran.append(target.load(folder / final.name))
                return ran[-1]

            checked = (precision, settings.min_snr, tokens)
            reference, loss, fed = self.subject.reference, None, []
            if streamed is not None:
                whole = next(iter(stages.whole.graphs.values()))
                fed = stream_feeds(self.feeds[0], whole, self.graph, layout(module), self.traced)
            if stages.normal is not None:
                tried = loss_feeds(self.feeds, fed, stages)
                loss = rewrite_loss(reference, stages, tried, context.run, tokens)
            if streamed is not None:
                rows = by_rows(reference, self.batch, next(iter(stages.whole.graphs.values())))
                proof, streamed.proof = prove_stream(rows, stages, module, load, fed, *checked)
            else:
                locate = lambda feed: str(first_divergence(module, target, feed, precision, FLOAT32) or "")
                meant = reference if loss is None else partial(meaning, stages.rewritten)
                taken = fitting(self.feeds, self.graph, manifest_of(folder / final.name))
                proof = prove(meant, module, load, taken, *checked, locate)
            heard = transcribed(reference, stages.rewritten, load, settings.calibration, context.run, tokens)
            files = deliver(written, final.parent)
        remarks = [str(r) for r in context.remarks]
        seconds = self.seconds + time.perf_counter() - start
        return Report(
            final, files, target.name, precision, size_of(files), proof, steps, remarks, seconds, loss, streamed,
            heard, ran[0].runner, beside(self.inventory, inventory(module)),
            self.calibration if self.calibration.recordings else None,
        )  # fmt: skip


def check_integers(module: Module, target: str, context: Context) -> None:
    """Raise if an int8 compilation left every op in float, with the reasons that the quantizer gave."""
    values = (v for g in module.graphs.values() for op in g.ops for v in (*op.operands, *op.results) if v is not None)
    if any(v.type.quant is not None for v in values):
        return
    reasons = [f"{r.loc}: {r.message}" for r in context.remarks if r.kind == "missed" and "floating point" in r.message]
    more = [f"and {len(reasons) - 8} more"] if len(reasons) > 8 else []
    raise UnsupportedError(
        "SC310", f"nothing in this model runs in int8 on {target}", [*reasons[:8], *more], ["leave --int8 out"]
    )


def proof_samples(samples: list[Feeds]) -> list[Feeds]:
    """The shortest and the longest of the calibration samples."""
    size = lambda feeds: sum(a.size for call in calls_in(feeds) for a in call.values())
    return [min(samples, key=size), max(samples, key=size)] if len(samples) > 1 else samples


def transform(
    subject: Subject,
    settings: Settings,
    context: Context,
    passes: Iterable[Pass],
    progress: Progress,
    observers: Iterable[Callable] = (),
) -> list[Step]:
    """Run the passes with the observers that the settings ask for. Raises `UsageError` SC017 for what it cannot do."""
    for value, allowed, what in (
        (settings.verify_each, ("types", "numeric"), "--verify-each"),
        (settings.print_after or "all", ("all", "changed", *registered()), "--print-ir-after"),
    ):
        if value not in allowed:
            raise UsageError("SC017", f"{what} {value}: one of {', '.join(allowed)}")
    if settings.limit is not None and settings.limit < 0:
        raise UsageError("SC017", f"--limit {settings.limit}: 0 or more rewrites")
    manager = Manager(context, settings.verify_each, subject.sample)
    manager.observers += [lambda index, p, module, step: progress(f"pass {index} {p}"), *observers]
    if settings.print_after:
        manager.observers.append(PrintAfter(settings.print_after))
    dump = DumpDir(settings.dump, subject.module) if settings.dump else None
    if dump:
        manager.observers.append(dump)
    hz = tick_rate(subject.module, settings.sample_rate, settings.streaming.frame_shift)
    try:
        return manager.run(subject.module, list(passes))
    except UnsupportedError as error:
        error.hints = [in_time(hint, hz) for hint in error.hints]
        raise
    finally:
        context.remarks = [replace(r, message=in_time(r.message, hz)) for r in context.remarks]
        if dump:
            dump.finish(context)


def find_culprit(subject: Subject, settings: Settings) -> tuple[Culprit, str] | None:
    """The first pass, and the first single rewrite in it, that does not keep what it declares; with a command.

    The command shows the failure on a graph reduced to the few ops that it takes, written to `repro/` (or under the
    folder of dumps).
    """
    subject = prepared(subject, settings)
    samples = calibration_feeds(subject, settings)
    passes, context = planned(subject, settings, bool(samples)), Context(Executor(), samples, trials=[subject.sample])
    culprit = bisect(subject.module, passes, subject.sample, context)
    if culprit is None:
        return None
    folder = (settings.dump or Path()) / "repro"
    return culprit, write_reproducer(smallest(culprit, context), folder, culprit.pass_name)


def manifest_of(path: Path) -> Manifest:
    """The manifest beside an artefact."""
    if not path.exists():
        raise UsageError("SC010", f"{path} does not exist")
    beside = manifest_path(path)
    if not beside.exists():
        raise UsageError("SC036", f"{beside} is missing: the manifest belongs beside the file")
    return Manifest.load(beside)


def open_artefact(path: Path, threads: int | None = None) -> Session:
    """A session for a file that a target wrote, recognised by its manifest."""
    return find_target(manifest_of(path).target).load(path, threads)

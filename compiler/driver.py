"""One compilation from start to end: capture, passes, legality, emission, proof, and nothing half-written."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.errors import UnsupportedError, UsageError
from ..ir.graph import Loc, Module
from ..ir.interpreter import run as interpret
from ..ir.text import load as load_text
from ..lowering.manifest import Manifest, manifest_path
from ..lowering.target import SUFFIXES, Session
from ..lowering.target import target as find_target
from ..passes.base import Context, Pass, make, registered
from .audio import read_samples
from .batch import by_rows, fixed_batch
from .bisect import Culprit, bisect, smallest
from .check import FLOAT32, Proof, meaning, prove
from .check_stream import layout, loss_feeds, prove_stream, rewrite_loss, stream_feeds
from .ctc import TOKENS, ctc_pass, tokens_of
from .dump import DumpDir, PrintAfter
from .durations import in_time, tick_rate
from .executor import Executor
from .localise import first_divergence
from .manager import Manager, Step
from .numerics import Difference
from .plan import plan
from .reduce import write_reproducer
from .samples import Feeds, as_feeds, at_lengths, check_limits, default_sizes, draw
from .stages import Stages
from .streamed import Streamed, describe
from .streaming import Streaming, rewrites, step_pass
from .transcribe import transcribed
from .words import WordErrors

Progress = Callable[[str], None]
RUN_TIME_SCALES = (
    "activations are quantized at run time, as no recordings were given; --calibrate DIR fixes their scales"
)


@dataclass
class Settings:
    """What a compilation is asked to do; the command line and `speechc.compile` fill it."""

    target: str = "onnx"
    precision: str = "float32"
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
    ctc: int | None = None  # the blank: `tokens`, decoded greedily from the log-probabilities, as one output more


@dataclass
class Subject:
    """What is compiled: the graph, the original to compare with, and the user's sample."""

    module: Module
    reference: Callable[[Feeds], tuple[np.ndarray, ...]]
    sample: Feeds
    name: str


@dataclass
class Report:
    """What came out; `as_dict` is the object that `--json` prints."""

    artefact: Path
    files: list[Path]
    target: str
    precision: str
    bytes: int
    proof: Proof
    steps: list[Step]
    remarks: list[str]
    seconds: float
    rewrite: Difference | None = None  # what rewrites that change the meaning lose
    streamed: Streamed | None = None
    words: WordErrors | None = None  # where recordings with texts were given

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; infinite SNR (no difference at all) is null."""
        file = self.proof.file.as_dict()
        more = {} if self.rewrite is None else {"rewrite": self.rewrite.as_dict()}
        more |= {} if self.words is None else {"word_errors": self.words.as_dict()}
        return more | {
            "artefact": str(self.artefact),
            "files": [str(f) for f in self.files],
            "target": self.target,
            "precision": self.precision,
            "bytes": self.bytes,
            "largest_error": file["error"],
            "snr": file["snr"],
            "file_against_graph": self.proof.between.as_dict(),
            "checked_at": self.proof.lengths,
            "passes": [s.as_dict() for s in self.steps],
            "remarks": self.remarks,
            "seconds": round(self.seconds, 3),
            **({} if self.streamed is None else {"streaming": self.streamed.as_dict()}),
        }


def read_subject(
    model: Any,
    inputs: Any = None,
    time_axis: int | Mapping[str, int] = 1,
    weights: Path | None = None,
    trust_pickle: bool = False,
) -> Subject:
    """Capture a model, or read a `.sir` file; with a sample, drawn at random where the user gave none."""
    if isinstance(model, (str, Path)) and str(model).endswith(".sir"):
        path = Path(model)
        if not path.exists():
            raise UsageError("SC010", f"{path} does not exist")
        module, original = load_text(path), load_text(path)
        graph, sample, name = module.main, None, path.stem
        reference = lambda feeds: interpret(original.main, feeds)
    else:
        from .capture import capture_with_reference, constants

        module, reference = capture_with_reference(model, inputs, time_axis, weights, trust_pickle)
        sample = None if _describes(inputs) else constants.split(inputs)[0]
        name = _name_of(model)
        graph = next(iter(module.graphs.values()))
    feeds = as_feeds(graph, sample) if sample is not None else _drawn(module)
    return Subject(module, reference, feeds, name)


def _describes(inputs: Any) -> bool:
    """Whether inputs are texts (or left to the file), not samples."""
    items = inputs.values() if isinstance(inputs, Mapping) else inputs
    first = next(iter(items), None) if isinstance(inputs, (list, tuple, Mapping)) else inputs
    return first is None or isinstance(first, str)


def _drawn(module: Module) -> Feeds:
    graph = next(iter(module.graphs.values()))
    return draw(graph, default_sizes(graph, module.meta.get("limits", {})))


def _name_of(model: Any) -> str:
    if isinstance(model, (str, Path)):
        text = str(model)
        return text.rsplit(":", 1)[1] if ":" in text and not Path(text).exists() else Path(text).stem
    return type(model).__name__.lower()


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
    if settings.integer_ports and not (settings.precision == "int8" and calibrated):
        raise UsageError("SC019", "integer inputs and outputs want --int8 and --calibrate: they need fixed scales")
    hz = tick_rate(subject.module, settings.sample_rate, asked.frame_shift)
    step = step_pass(asked, hz) if asked.wanted else None
    target = find_target(settings.target)
    ports = [] if settings.ctc is None else [ctc_pass(next(iter(subject.module.graphs.values())), settings.ctc)]
    changes = rewrites(asked, hz)
    return plan(target, settings.precision, calibrated, settings.integer_ports, changes, step, note, ports)


def build(subject: Subject, settings: Settings, progress: Progress = lambda what: None) -> Report:
    """Compile `subject`; raises a `SpeechcError` (and writes nothing) where it cannot be shown to be right."""
    start = time.perf_counter()
    target, module = find_target(settings.target), subject.module
    graph = next(iter(module.graphs.values()))
    final = output_path(settings, subject.name, target.suffix)
    samples = calibration_feeds(subject, settings)
    feeds = [
        f for sample in proof_samples(samples) or [subject.sample] for f in at_lengths(sample, graph, limits(module))
    ]
    context = Context(Executor(), samples, settings.limit, trials=[subject.sample])
    for text in module.meta.get("notes", ()):
        context.remark("note", "capture", text, Loc(""))
    note = lambda text: context.remark("note", "streaming", text, Loc(""))
    passes = planned(subject, settings, bool(samples), note)
    stages, traced, batch = Stages(passes, module), limits(module), fixed_batch(graph)
    tokens = tokens_of(passes, graph)
    hz = tick_rate(module, settings.sample_rate, settings.streaming.frame_shift)
    if settings.sample_rate is not None:
        module.meta.setdefault("sample_rate", settings.sample_rate)
    steps = transform(subject, settings, context, passes, progress, [stages])
    streamed, tokens = None, tokens if TOKENS in next(iter(module.graphs.values())).output_names else None
    if stages.streams:
        streamed = describe(stages, module, settings.streaming, hz)
    for g in module.graphs.values():
        target.check(g)
    if settings.precision == "int8":
        check_integers(module, target.name, context)
        if not samples:
            context.remark("note", "int8", RUN_TIME_SCALES, Loc(""))
    module.meta["notes"] = [r.message for r in context.remarks if r.kind == "note"]
    with _workshop(final) as folder:
        progress(f"writing {final.name}")
        written = target.emit(module, folder / final.name, settings.precision, settings.options)
        progress("proving that the file does what the model did")
        load = lambda: target.load(folder / final.name)
        checked = (settings.precision, settings.min_snr, tokens)
        loss, fed = None, []
        if streamed is not None:
            fed = stream_feeds(feeds[0], next(iter(stages.whole.graphs.values())), graph, layout(module), traced)
        if stages.normal is not None:
            tried = loss_feeds(feeds, fed, stages)
            loss = rewrite_loss(subject.reference, stages, tried, context.run, tokens)
        if streamed is not None:
            reference = by_rows(subject.reference, batch, next(iter(stages.whole.graphs.values())))
            proof, streamed.proof = prove_stream(reference, stages, module, load, fed, *checked)
        else:
            locate = lambda feed: str(first_divergence(module, target, feed, settings.precision, FLOAT32) or "")
            reference = subject.reference if loss is None else partial(meaning, stages.rewritten)
            proof = prove(reference, module, load, feeds, *checked, locate)
        heard = transcribed(subject.reference, stages.rewritten, load, settings.calibration, context.run, tokens)
        files = _deliver(written, final.parent)
    size = sum(f.stat().st_size for f in files if not f.name.endswith(".json"))
    remarks = [str(r) for r in context.remarks]
    seconds = time.perf_counter() - start
    return Report(
        final, files, target.name, settings.precision, size, proof, steps, remarks, seconds, loss, streamed, heard
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
    size = lambda feeds: sum(a.size for a in feeds.values())
    return [min(samples, key=size), max(samples, key=size)] if len(samples) > 1 else samples


def limits(module: Module) -> dict[str, list[int | None]]:
    """The range of every symbolic size that the capture found."""
    return module.meta.get("limits", {})


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
    samples = calibration_feeds(subject, settings)
    passes, context = planned(subject, settings, bool(samples)), Context(Executor(), samples, trials=[subject.sample])
    culprit = bisect(subject.module, passes, subject.sample, context)
    if culprit is None:
        return None
    folder = (settings.dump or Path()) / "repro"
    return culprit, write_reproducer(smallest(culprit, context), folder, culprit.pass_name)


def calibration_feeds(subject: Subject, settings: Settings) -> list[Feeds]:
    """The calibration samples as feeds: from a folder, or arrays given in Python."""
    given = settings.calibration
    if given is None:
        return []
    graph = next(iter(subject.module.graphs.values()))
    if isinstance(given, (str, Path)):
        given = read_samples(Path(given), settings.sample_rate or subject.module.meta.get("sample_rate"))
    feeds = [as_feeds(graph, sample) for sample in given]
    if not feeds:
        raise UsageError("SC035", "no calibration samples were given")
    for number, sample in enumerate(feeds, 1):
        check_limits(graph, sample, limits(subject.module), f"calibration sample {number}")
    return feeds


def output_path(settings: Settings, name: str, suffix: str) -> Path:
    """Where the artefact goes: the file or folder asked for, or the current folder, under the model's name."""
    out = settings.output or Path.cwd()
    if out.suffix == suffix and not out.is_dir():
        path = out
    elif out.suffix in SUFFIXES and not out.is_dir():
        raise UsageError("SC011", f"{out} is no name for a {suffix} file", hints=[f"-o {out.with_suffix(suffix)}"])
    else:
        path = out / f"{settings.name or name}{suffix}"
    folder = path.parent
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "a folder has that name")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError("SC011", f"cannot write {path} ({error.strerror or error})") from None
    return path


class _workshop:
    """A temporary folder beside the result: files are moved out of it only when they are proven.

    A folder for the result that had to be made goes again where nothing was put into it.
    """

    def __init__(self, final: Path):
        self.parent = final.parent

    def __enter__(self) -> Path:
        self.made = [p for p in (self.parent, *self.parent.absolute().parents) if not p.exists()]
        self.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=".speechc-", dir=self.parent))
        return self.folder

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self.made:
            with contextlib.suppress(OSError):  # it holds the result
                folder.rmdir()


def _deliver(written: list[Path], folder: Path) -> list[Path]:
    return [path.replace(folder / path.name) for path in written]


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

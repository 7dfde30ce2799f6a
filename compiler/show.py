"""What the command line prints: progress, reports, tables, summaries, differences."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..ir.errors import NUMERICAL, SpeechcError
from ..ir.graph import Module
from ..ir.text import load, print_module
from ..passes.base import Remark, registered
from . import show_targets
from .assembly.build import Bundle
from .bisect import Culprit
from .driver import manifest_of
from .manager import Step
from .place import size_of
from .report import Report
from .settings import Settings
from .show_heard import tables
from .show_stream import facts, latency_tables, size_text, step_facts

# A pipe or a file has no width of its own; tables must not be broken for it.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 200)


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A status line on standard error (lines where it is no terminal); nothing when quiet."""
    if quiet:
        yield lambda what: None
    else:
        with err.status("starting") as status:
            yield lambda what: status.update(what)


def report(r: Report) -> None:
    """What a compilation made, and the proof, for someone shipping it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("file", str(r.artefact))
    table.add_row("target", f"{r.target}, {r.precision}")
    table.add_row("size", r.size_text)
    table.add_row("checked by", r.checked_by)
    model = "the model"
    if r.rewrite is not None:
        model = "the rewritten model" if r.streamed is None else "the model, rewrite included"
    table.add_row(f"against {model}", f"{r.proof.file}")
    if r.rewrite is not None:
        table.add_row("the rewrite", f"SNR {r.rewrite.snr:.1f} dB against the model as it was")
    if r.words is not None:
        table.add_row("word errors", str(r.words))
    if r.streamed is not None:
        for name, text in facts(r.streamed):
            table.add_row(name, text)
    lengths = "; ".join(", ".join(f"{n}{s}" for n, s in feed.items()) for feed in r.proof.lengths)
    table.add_row("checked at", lengths)
    changed = sum(s.changed for s in r.steps)
    table.add_row(
        "passes", f"{len(r.steps)} run, {changed} changed something; {r.steps[-1].ops if r.steps else 0} ops left"
    )
    table.add_row("seconds", f"{r.seconds:.1f}")
    err.print(table)
    calibration([r])
    if r.streamed is not None:
        for more in latency_tables(r.streamed):
            err.print(more)
    for text in r.remarks:
        if text.startswith("note"):
            err.print(text, markup=False)


def folder(made: Bundle, as_json: bool, quiet: bool) -> None:
    """One table (or JSON object) for a model of several parts, and their notes."""
    if as_json:
        out.print_json(json.dumps(made.as_dict()), indent=None)
    if as_json or quiet:
        return
    table = Table("part", "file", "precision", "size", "state", "against the model", "streamed = whole", box=None)
    for name, r in made.reports.items():
        state = "-" if r.streamed is None else size_text(r.streamed.state_bytes)
        streamed = "-" if r.streamed is None else str(r.streamed.proof.file)
        table.add_row(name, r.artefact.name, r.precision, r.size_text, state, str(r.proof.file), streamed)
    err.print(f"{made.folder}: {size_text(made.bytes)}, {made.seconds:.1f} s")
    err.print(table)
    calibration(made.reports.values())
    for name, r in made.reports.items():
        for text in r.remarks:
            if text.startswith("note"):
                err.print(f"{name}: {text}", markup=False)


def calibration(reports: Iterable[Report]) -> None:
    """What became of the recordings that were calibrated with, which are the same for all of these reports."""
    found = next((r.calibration for r in reports if r.calibration is not None), None)
    if found is not None:
        err.print(f"calibrated with {found.used} of {found.recordings} recordings")
        for table in tables(found.left_out, found.notes):
            err.print(table)


def all_reports(
    settings: Sequence[Settings], made: Sequence[Report | SpeechcError], as_json: bool, quiet: bool
) -> None:
    """One table (or JSON object) for several targets, then the errors of those that failed, and their exit status."""
    errors = [found for found in made if isinstance(found, SpeechcError)]
    if as_json:
        failed = lambda s, e: {"target": s.target, "error": e.code, "message": str(e)}
        each = [failed(s, m) if isinstance(m, SpeechcError) else m.as_dict() for s, m in zip(settings, made)]
        out.print_json(json.dumps({"targets": each}), indent=None)
    elif not quiet:
        err.print(show_targets.together(settings, made))
        calibration(m for m in made if isinstance(m, Report))
    for error in errors:
        print(error, file=sys.stderr)
    if errors:
        sys.exit(errors[0].exit_code)


def targets() -> None:
    """The table of `speechc targets`."""
    out.print(show_targets.targets())


def steps(done: Iterable[Step], remarks: Iterable[Remark]) -> None:
    """Passes with seconds and changes, then remarks, on standard error."""
    table = Table("pass", "seconds", "changes", "ops", box=None, pad_edge=False)
    for s in done:
        table.add_row(s.name, f"{s.seconds:.3f}", str(s.changes) if s.changed else "-", str(s.ops))
    err.print(table)
    for r in remarks:
        err.print(str(r), markup=False)


def passes() -> None:
    """The table of `speechc passes`."""
    table = Table("stage", "pass", "options", "keeps", "what it does", box=None, pad_edge=False)
    for name, cls in registered().items():
        options = ", ".join(f"{f.name}={f.default!r}" for f in fields(cls))
        table.add_row(cls.stage, name, options, str(cls.equal), _first_line(cls.__doc__))
    out.print(table)


def ops() -> None:
    """The table of `speechc ops`: signature, meaning, which targets have it, and whether it streams."""
    from ..ir import ops as _core  # noqa: F401
    from ..ir.registry import OPS
    from ..lowering.target import available, target
    from ..passes.stream.rules import standing

    names = available()
    tables = {n: target(n).kinds for n in names}
    table = Table("family", "op", *names, "streams", "what it computes", box=None, pad_edge=False)
    for kind, d in sorted(OPS.items(), key=lambda item: (item[1].family, item[0])):
        streams = standing(kind, bool(d.operands or d.variadic))
        marks = ["yes" if kind in tables[n] else "-" for n in names]
        table.add_row(d.family, escape(d.signature()), *marks, streams, _first_line(d.doc))
    out.print(table)
    out.print(f"{len(OPS)} ops")


def operators(found) -> None:
    """The table of `speechc ops --used`: PyTorch operators of a model, and whether they can be captured."""
    counts: Counter = Counter()
    where: dict[str, set[str]] = {}
    known: dict[str, bool] = {}
    for used in found:
        counts[used.operator] += 1
        where.setdefault(used.operator, set()).add(used.path or "(model)")
        known[used.operator] = used.known
    table = Table("operator", "times", "captured", "in", box=None, pad_edge=False)
    for name, n in counts.most_common():
        places = sorted(where[name])
        shown = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
        table.add_row(name, str(n), "yes" if known[name] else "no", shown)
    out.print(table)


def inspect(path: Path, depth: int) -> None:
    """The summary of `speechc inspect`."""
    if path.suffix != ".sir":
        m = manifest_of(path)
        out.print(f"{path}: {m.target}, {m.precision}, {size_text(size_of([path]))}", markup=False)
        for what, ports in (("input", m.inputs), ("output", m.outputs), ("state", m.states)):
            for p in ports:
                out.print(f"  {what} {p.name}: {p.dtype}[{', '.join(map(str, p.shape))}]", markup=False)
        for name, text in step_facts(m):
            out.print(f"  {name}: {text}", markup=False)
        for note in m.notes:
            out.print(f"  note: {note}", markup=False)
        return
    module = load(path)
    for graph in module.graphs.values():
        out.print(f"graph {graph.name}: {len(graph)} ops", markup=False)
        for v in graph.inputs:
            out.print(f"  input {v.name}: {v.type}", markup=False)
        for v in graph.states.values():
            out.print(f"  state {v.name}: {v.type}", markup=False)
        for name, v in zip(graph.output_names, graph.outputs):
            out.print(f"  output {name}: {v.type}", markup=False)
        table = Table("module", "ops", "weights", "kinds", box=None, pad_edge=False)
        for where, (count, elements, kinds) in _by_module(graph, depth).items():
            table.add_row(where, str(count), f"{elements:,}", ", ".join(f"{n} {k}" for k, n in kinds.most_common(5)))
        out.print(table)


def _by_module(graph, depth: int) -> dict[str, tuple[int, int, Counter]]:
    groups: dict[str, tuple[int, int, Counter]] = {}
    counted: set[str] = set()
    for op in graph.ops:
        where = ".".join(op.loc.path.split(".")[:depth]) or "(model)"
        count, elements, kinds = groups.get(where, (0, 0, Counter()))
        for v in op.operands:
            if v is not None and v.kind == "weight" and v.name not in counted:
                counted.add(v.name)
                n = 1
                for s in v.type.sizes:
                    n *= s
                elements += n
        kinds[op.kind] += 1
        groups[where] = (count + 1, elements, kinds)
    return groups


def diff(a: Path, b: Path) -> None:
    """The differences of `speechc diff`: counts of ops, then lines with value numbers left out."""
    left, right = load(a), load(b)
    before, after = _kinds(left), _kinds(right)
    for kind in sorted(before | after):
        if before[kind] != after[kind]:
            out.print(f"{kind}: {before[kind]} -> {after[kind]}", markup=False)
    lines = [[re.sub(r"%\d+", "%", line) for line in print_module(m).splitlines()] for m in (left, right)]
    for line in difflib.unified_diff(*lines, str(a), str(b), lineterm="", n=1):
        out.print(
            line, markup=False, soft_wrap=True, style="green" if line[0] == "+" else "red" if line[0] == "-" else ""
        )


def _kinds(module: Module) -> Counter:
    return Counter(op.kind for graph in module.graphs.values() for op in graph.ops)


def culprit(result: tuple[Culprit, str] | None) -> None:
    """What `--bisect` found: the rewrite as a difference of texts, the command that shows it alone, exit status 5."""
    if result is None:
        out.print("every pass keeps what it declares")
        return
    found, command = result
    out.print(str(found), markup=False)
    out.print(f"repro: {command}", markup=False, soft_wrap=True)
    lines = [print_module(m).splitlines() for m in (found.before, found.after)]
    changed = difflib.unified_diff(
        *([re.sub(r"%\d+", "%", line) for line in text] for text in lines), "before", "after", lineterm="", n=0
    )
    for line in changed:
        out.print(line, markup=False, soft_wrap=True)
    sys.exit(NUMERICAL)


def _first_line(doc: str | None) -> str:
    return escape((doc or "").strip().partition("\n")[0])

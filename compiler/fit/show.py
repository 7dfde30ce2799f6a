"""What `speechc fit` prints: what a file needs, whether devices have it, what would make it fit, and the stores."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from ..show_stream import size_text
from .need import Need
from .table import Assumptions, Store
from .verdict import Resource, Verdict

MODULES = 10  # shown; the rest are one line
SOURCED = 2  # devices up to which every source is printed; --json has them all


def count_text(n: float) -> str:
    """A number of operations or parameters as people say it."""
    for unit in ("", " thousand", " million", " billion"):
        if abs(n) < 1000:
            return f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:.3g} trillion"


def needed(need: Need) -> Iterator[tuple[str, str]]:
    """Rows of what a file needs."""
    yield "file", f"{need.path}, {need.precision}, {size_text(need.file_bytes)}"
    yield "parameters", f"{count_text(need.parameters)}, {size_text(need.weight_bytes)}"
    integer = need.int8_macs / need.macs if need.macs else 0
    yield (
        "arithmetic",
        (
            f"{count_text(need.macs)} multiply-accumulates a second of audio, {integer:.0%} of them in int8 "
            f"(calls of {need.seconds:g} s)"
        ),
    )
    apart = f"{size_text(need.unshared_bytes)} where nothing is written in place"
    yield "activations", f"{size_text(need.activation_bytes)} at the peak; {apart}"
    yield "state", size_text(need.state_bytes)


def report(
    need: Need, verdicts: Sequence[Verdict], stores: Sequence[tuple[Store, bool]], assumed: Assumptions, detail: bool
) -> None:
    """Tables on standard output; `detail` adds modules and, for few devices, assumptions and sources."""
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    facts = Table(box=None, show_header=False, pad_edge=False)
    for row in needed(need):
        facts.add_row(*row)
    out.print(facts)
    for note in need.notes:
        out.print(f"note: {note}", markup=False)
    if detail:
        out.print(_modules(need))
    table = Table("device", "fits", "memory", "storage", "times real time", "assumed", box=None, pad_edge=False)
    for v in verdicts:
        memory, storage, time = (_cell(r) for r in v.resources)
        assumed_of = ", ".join(v.device.assumed)
        table.add_row(v.device.name, "yes" if v.fits else "no", memory, storage, time, assumed_of)
    out.print(table)
    for v in verdicts:
        for remedy in v.remedies:
            out.print(f"{v.device.key}: {remedy}", markup=False, soft_wrap=True)
    if detail:
        for name, why in assumed.why.items():
            out.print(f"assumed, {name}: {_assumed(assumed, name)}: {why}", markup=False, soft_wrap=True)
        for v in verdicts if len(verdicts) <= SOURCED else ():
            for number, source in v.device.sources.items():
                mark = "assumed, not read in " if number in v.device.assumed else ""
                out.print(f"{v.device.key}, {number}: {mark}{source}", markup=False, soft_wrap=True)
    missed = [s for s, under in stores if not under]
    for s in missed:
        out.print(f"over the limit of {size_text(int(s.limit))}: {s.name} ({s.source})", markup=False, soft_wrap=True)
    if not missed:
        out.print(f"under every limit of the app stores (the smallest is {_smallest(stores)})", markup=False)


def _modules(need: Need) -> Table:
    table = Table("module", "parameters", "multiply-accumulates a second", box=None, pad_edge=False)
    rows = sorted(need.modules, key=lambda m: -m[2])
    for path, parameters, macs in rows[:MODULES]:
        table.add_row(path or "(model)", count_text(parameters), f"{count_text(macs)}  {macs / need.macs:.1%}")
    if rest := rows[MODULES:]:
        table.add_row(f"{len(rest)} more", count_text(sum(r[1] for r in rest)), count_text(sum(r[2] for r in rest)))
    return table


def _cell(r: Resource) -> str:
    mark = "" if r.fits else "  no" if r.fits is not None else "  ?"
    if r.name == "time":
        return (r.said if r.need is None else f"{r.need:.3g} of {r.have:g}") + mark
    return f"{size_text(int(r.need))} of {size_text(int(r.have))}{mark}"


def _assumed(a: Assumptions, name: str) -> str:
    return {
        "utilisation": ", ".join(f"{v:.0%} of a rate with {p}" for p, v in a.utilisation.items()),
        "of_peak": f"{a.of_peak:.0%} of a peak",
        "margin": f"at least {a.margin:g} times real time",
        "cores": f"{a.cores} core",
    }.get(name, "")


def _smallest(stores: Sequence[tuple[Store, bool]]) -> str:
    store = min((s for s, _ in stores), key=lambda s: s.limit)
    return f"{size_text(int(store.limit))}, {store.name}"

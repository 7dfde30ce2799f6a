"""What `speechc bench` prints: latencies, ratios, throughput, memory and loading, and where the time goes."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from ..show_stream import size_text
from .figures import Latency
from .measure import Measured, Timed

ROWS = 15  # modules and kinds shown of a profile
OWN = "(the runtime's own)"


def report(files: Sequence[Measured], machine: dict[str, Any], depth: int) -> None:
    """Tables on standard output."""
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    out.print(f"{machine['processor']}, {machine['cores']} cores, {machine['system']}", markup=False)
    for tables in (_latencies(files), _throughput(files), _resources(files)):
        if tables is not None:
            out.print()
            out.print(tables)
    for m in files:
        if m.profile is not None:
            for name, table in profile_tables(m, depth):
                out.print(f"\n{m.name}: {name}", markup=False)
                out.print(table)
    for m in files:
        for text in m.notes:
            out.print(f"note: {m.name}: {text}", markup=False, soft_wrap=True)


def _latencies(files: Sequence[Measured]) -> Table:
    columns = ["file", "threads", "of", "timings", "median", "95 %", "99 %", "real-time factor"]
    several = len(files) > 1
    table = Table(*columns, *(["times as fast"] if several else []), box=None, pad_edge=False)
    for m in files:
        for t in m.timed:
            runs = [s for block in t.blocks for s in block]
            factor = m.busy(t)
            of = "an utterance" if m.opened["seconds"] is None else f"{m.opened['seconds']:.2f} s of audio"
            rest = ["" if factor is None else f"{factor:.4f}", *([ratio_text(t)] if several else [])]
            table.add_row(m.name, str(t.threads), of, *_figures(Latency.of(runs)), *rest)
            if m.opened["unit"] == "chunk":
                chunk = m.opened["chunk"]
                of = "a step" if chunk is None else f"a chunk of {1000 * chunk:g} ms"
                table.add_row("", "", of, *_figures(Latency.of(t.parts)))
    return table


def _figures(found: Latency) -> list[str]:
    return [str(found.count), *(f"{1000 * v:.3f} ms" for v in (found.median, found.p95, found.p99))]


def ratio_text(t: Timed) -> str:
    """The ratio against the first file, and between which values its blocks lie."""
    return "1" if t.ratio is None else f"{t.ratio.median:.2f} ({t.ratio.low:.2f} to {t.ratio.high:.2f})"


def _throughput(files: Sequence[Measured]) -> Table | None:
    batches = sorted({n for m in files for t in m.timed for n in t.throughput})
    if not batches:
        return None
    heads = [f"{n} at once" for n in batches]
    table = Table("seconds of audio a second", "threads", *heads, box=None, pad_edge=False)
    for m in files:
        for t in m.timed:
            cells = [f"{t.throughput[n]:.1f}" if n in t.throughput else "-" for n in batches]
            table.add_row(m.name, str(t.threads), *cells)
    return table


def _resources(files: Sequence[Measured]) -> Table:
    table = Table(
        "file", "size", "peak memory", "of it the model", "loads in", "its runtime in", "first run", box=None,
        pad_edge=False,
    )  # fmt: skip
    ms = lambda s: f"{1000 * s:.0f} ms"
    for m in files:
        o = m.opened
        known = o["peak_bytes"] is not None
        peak = size_text(o["peak_bytes"]) if known else "not known here"
        own = size_text(o["peak_bytes"] - o["base_bytes"]) if known else ""
        loading = [ms(o[k]) for k in ("load_seconds", "import_seconds", "first_seconds")]
        table.add_row(m.name, size_text(m.about["bytes"]), peak, own, *loading)
    return table


def profile_tables(m: Measured, depth: int) -> Iterable[tuple[str, Table]]:
    """Time by module path (to `depth` parts), and by kind of operator, of one call."""
    total = sum(o["seconds"] for o in m.profile) or 1.0
    cut = lambda o: ".".join(o["path"].split(".")[:depth]) or OWN
    for name, key in ((f"by module, the mean of {m.calls} calls", cut), ("by kind of operator", lambda o: o["kind"])):
        parts: dict[str, float] = defaultdict(float)
        for o in m.profile:
            parts[key(o)] += o["seconds"]
        table = Table("", "a call", "share", "", box=None, pad_edge=False)
        rows = sorted(parts.items(), key=lambda item: -item[1])
        rest = sum(s for _, s in rows[ROWS:])
        for label, seconds in rows[:ROWS] + ([(f"{len(rows) - ROWS} more", rest)] if rows[ROWS:] else []):
            bar = "█" * round(30 * seconds / rows[0][1]) if rows[0][1] else ""
            table.add_row(label, f"{1000 * seconds:.3f} ms", f"{seconds / total:.1%}", bar)
        yield name, table


@contextmanager
def progress(quiet: bool):
    """A status line on standard error; nothing where quiet."""
    from ..show import progress as status

    with status(quiet) as told:
        yield told

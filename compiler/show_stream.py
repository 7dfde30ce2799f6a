"""What is printed of a step file: chunk, latency and state, and which modules they come from."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from rich.table import Table

from ..lowering.manifest import Manifest
from .durations import duration_text
from .streamed import Streamed

ROWS = 12  # modules shown; the rest are one line


def size_text(n: int) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.2f} GB"


def facts(s: Streamed) -> Iterator[tuple[str, str]]:
    """Rows of the report: chunk, latency, state, proof."""
    streams = f", {s.batch} streams" if s.batch > 1 else ""
    yield "chunk", f"{_said(s, s.chunk)}{streams}"
    for late in s.late:
        wait = f"{_said(s, late.ticks)}, and the chunk" if late.delay else "the chunk alone"
        yield f"latency of {late.output}", wait
    yield "state", f"{size_text(s.state_bytes)} in {sum(h.count for h in s.held.values())} tensors"
    if s.proof is not None:
        yield "streamed = whole", f"file {s.proof.file}; graph {s.proof.graph}"


def latency_tables(s: Streamed) -> Iterator[Table]:
    """Where the latency of the latest output comes from, and where the state lies, by module."""
    latest = s.latest
    if latest is not None and latest.parts:
        table = Table("module", f"latency of {latest.output}", "", box=None, pad_edge=False)
        rows = list(latest.parts.items())
        for path, n in rows[:ROWS]:
            table.add_row(path or "(model)", _said(s, n), _bar(n, max(latest.parts.values())))
        _rest(table, rows, lambda n: _said(s, n))
        yield table
    if s.held:
        table = Table("module", "state", "", box=None, pad_edge=False)
        held = [(path, h.bytes) for path, h in s.held.items()]
        for path, n in held[:ROWS]:
            table.add_row(path or "(model)", size_text(n), _bar(n, held[0][1]))
        _rest(table, held, size_text)
        yield table


def step_facts(m: Manifest) -> Iterator[tuple[str, str]]:
    """Lines of `speechc inspect` for the manifest of a step file; none for other files."""
    s = m.streaming
    if s is None:
        return
    hz = None if s["tick_hz"] is None else Fraction(str(s["tick_hz"]))
    yield "chunk", f"{_duration(s['chunk'], hz)}, {s['batch']} stream{'s' if s['batch'] > 1 else ''}"
    for name, o in s["outputs"].items():
        late = Fraction(o["delay"]) / Fraction(o["rate"])
        yield f"latency of {name}", f"{_duration(late, hz)} ({o['delay']} of its frames), and the chunk"
    yield "state", f"{size_text(s['state_bytes'])} in {len(m.states)} tensors"


def _rest(table: Table, rows: list, say) -> None:
    left = rows[ROWS:]
    if left:
        table.add_row(f"{len(left)} more", say(sum(n for _, n in left)), "")


def _bar(n: Fraction | int, largest: Fraction | int) -> str:
    return "█" * max(1, round(20 * n / largest)) if n > 0 else ""


def _said(s: Streamed, n: Fraction | int) -> str:
    return _duration(n, s.hz)


def _duration(n: Fraction | int, hz: Fraction | None) -> str:
    n = Fraction(n)
    if hz is not None:
        return f"{float(1000 * n / hz):g} ms"
    return duration_text(int(n), None) if n.denominator == 1 else f"{float(n):g} frames"

"""Measured speed on the page: latency by file with its spread, throughput, memory, loading, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .plain_section import add_plain
from .plots import spread
from .view import Cell, Plot, Section, Table, bytes_of, milliseconds, number, percent, share, text

MARKS = ("median_ms", "p95_ms", "p99_ms")
SAID = ("median", "95 %", "99 %")
DEPTH = 3  # parts of a module path that the profile is summed up by


def bench_sections(data: Mapping[str, Any]) -> Iterator[Section]:
    """One section."""
    made = Section("bench", "Speed and memory")
    add_plain(made, {k: v for k, v in data.items() if k != "files"})
    files = data.get("files") or []
    names = _names(files)
    rows, drawn = [], []
    for name, f in zip(names, files):
        for t in f.get("timed") or []:
            for unit in ("utterance", "chunk"):
                figures = t.get(unit)
                if not figures:
                    continue
                ratio = t.get("ratio") if unit == "utterance" else None
                rows.append([text(name), number(t["threads"]), text(unit), *(milliseconds(figures[m]) for m in MARKS),
                             number(t["real_time_factor"], "{:.4f}"), _ratio(ratio)])  # fmt: skip
                threads = f"{t['threads']} thread{'s' if t['threads'] != 1 else ''}"
                drawn.append((unit, f"{name}, {threads}", [figures[m] for m in MARKS]))
    if rows:
        headings = ["file", "threads", "time of", *SAID, "real-time factor", "times as fast as the first"]
        made.tables.append(Table("Latency", headings, rows))
    for unit in ("utterance", "chunk"):
        values = [(name, figures) for kind, name, figures in drawn if kind == unit]
        if values:
            made.plots.append(Plot(f"Latency of one {unit}: median, 95 and 99 percent, in ms",
                                   spread(values, "ms", SAID)))  # fmt: skip
    made.tables += [t for t in (_throughput(names, files), _memory(names, files)) if t is not None]
    for name, f in zip(names, files):
        if f.get("profile"):
            _profile(made, name, f["profile"])
        made.notes += [f"{name}: {note}" for note in f.get("notes") or []]
    yield made


def _names(files: Sequence[Mapping[str, Any]]) -> list[str]:
    paths = [str(f.get("path", "")) for f in files]
    short = [Path(p).name for p in paths]
    return [p if short.count(s) > 1 else s for p, s in zip(paths, short)]


def _ratio(ratio: Mapping[str, float] | None) -> Cell:
    if not ratio:
        return number(None)
    return Cell(f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})", True)


def _throughput(names: Sequence[str], files: Sequence[Mapping[str, Any]]) -> Table | None:
    rows = [
        [text(name), number(t["threads"]), number(b["batch"]), number(b["audio_seconds_per_second"], "{:.1f}")]
        for name, f in zip(names, files)
        for t in f.get("timed") or []
        for b in t.get("throughput") or []
    ]
    headings = ["file", "threads", "utterances at once", "seconds of audio a second"]
    return Table("Throughput", headings, rows) if rows else None


def _memory(names: Sequence[str], files: Sequence[Mapping[str, Any]]) -> Table | None:
    rows, most = [], max((f["memory"]["peak_bytes"] or 0 for f in files if f.get("memory")), default=0)
    for name, f in zip(names, files):
        memory, load = f.get("memory"), f.get("load")
        if memory and load:
            peak = bytes_of(memory["peak_bytes"], share(memory["peak_bytes"], most))
            times = [number(load[f"{k}_seconds"], "{:.3f} s") for k in ("import", "load", "first")]
            held = (bytes_of(memory[f"{k}_bytes"]) for k in ("base", "loaded"))
            rows.append([text(name), *held, peak, *times])
    headings = ["file", "memory before", "loaded", "at most", "import of the runtime", "loading", "first run"]
    return Table("Memory of a process of its own, and loading", headings, rows) if rows else None


def _profile(made: Section, name: str, profile: Sequence[Mapping[str, Any]]) -> None:
    """Where the time goes: operators summed up by module and by kind, the most costly first."""
    total = sum(row["seconds"] for row in profile) or 1.0
    for key, label in (("path", "module"), ("kind", "operator")):
        sums: dict[str, float] = {}
        for row in profile:
            of = ".".join(str(row[key]).split(".")[:DEPTH]) if key == "path" else str(row[key])
            sums[of or "(model)"] = sums.get(of or "(model)", 0.0) + row["seconds"]
        ordered = sorted(sums.items(), key=lambda item: -item[1])
        rows = [[text(of), milliseconds(1000 * n), percent(n / total, bar=share(n, ordered[0][1]))]
                for of, n in ordered]  # fmt: skip
        made.tables.append(Table(f"Where the time of {name} goes, by {label}", [label, "time", "share"], rows, 12))

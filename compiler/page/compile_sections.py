"""A compilation on the page: the file and its proof, sizes by module, streaming, word errors, passes, remarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..show_stream import size_text
from .plots import horizontal_bars
from .view import Plot, Section, Table, bytes_of, decibels, milliseconds, number, percent, share, text

ROWS = 16  # modules that a plot shows


def compile_sections(data: Mapping[str, Any]) -> Iterator[Section]:
    """The sections of one compilation."""
    yield _file(data)
    for make in (_sizes, _streaming, _words):
        if (made := make(data)) is not None:
            yield made
    yield _passes(data)
    if data.get("remarks"):
        yield _remarks(data["remarks"])


def _file(data: Mapping[str, Any]) -> Section:
    made = Section("file", "The file and its proof")
    made.facts = [(label, str(data[key])) for label, key in (("file", "artefact"), ("target", "target"),
                  ("precision", "precision"), ("checked by", "checked_by")) if data.get(key)]  # fmt: skip
    if "bytes" in data:
        made.facts.append(("size", size_text(data["bytes"])))
    if data.get("seconds") is not None:
        made.facts.append(("compiled in", f"{data['seconds']:.1f} s"))
    rows = []
    for label, key in (("file against model", None), ("file against graph", "file_against_graph"),
                       ("rewrite against model", "rewrite")):  # fmt: skip
        found = {"error": data.get("largest_error"), "snr": data.get("snr")} if key is None else data.get(key)
        if found:
            rows.append([text(label), number(found.get("error"), "{:.1e}"), decibels(found.get("snr"))])
    for key, label in (("graph_against_whole", "step graph against whole"), ("file_against_whole", "file, streamed, "
                       "against whole")):  # fmt: skip
        if found := (data.get("streaming") or {}).get(key):
            rows.append([text(label), number(found.get("error"), "{:.1e}"), decibels(found.get("snr"))])
    made.tables.append(Table("Outputs, compared when it was compiled", ["what", "largest error", "SNR"], rows))
    if data.get("checked_at"):
        shapes = "; ".join(", ".join(f"{n} {s}" for n, s in feed.items()) for feed in data["checked_at"])
        made.notes.append(f"compared at {shapes}")
    return made


def _sizes(data: Mapping[str, Any]) -> Section | None:
    modules = data.get("modules")
    if not modules:
        return None
    made = Section("sizes", "Weights by module", intro="Bytes of weights before compiling (as captured) and after.")
    before, after = (sum(m[key] for m in modules) for key in ("bytes_before", "bytes_after"))
    made.facts = [("captured", size_text(before)), ("compiled", size_text(after))]
    if before:
        made.facts.append(("left", f"{100 * after / before:.0f} %"))
    most = max((max(m["bytes_before"], m["bytes_after"]) for m in modules), default=0)
    rows = [
        [text(m["path"] or "(model)"), bytes_of(m["bytes_before"], share(m["bytes_before"], most)),
         bytes_of(m["bytes_after"], share(m["bytes_after"], most)), number(m["ops_before"]), number(m["ops_after"])]
        for m in modules
    ]  # fmt: skip
    headings = ["module", "captured", "compiled", "ops captured", "ops compiled"]
    made.tables.append(Table("Weights and ops by module", headings, rows))
    return made


def _streaming(data: Mapping[str, Any]) -> Section | None:
    s = data.get("streaming")
    if not s:
        return None
    made = Section("streaming", "Streaming: latency and state")
    made.facts = [("chunk", _time(s["chunk"])), ("streams", str(s["batch"])), ("state", size_text(s["state_bytes"]))]
    for name, out in s["outputs"].items():
        made.facts.append((f"latency of {name}", f"{_time(out['latency'])}, and the chunk"))
        parts = [(path or "(model)", t) for path, t in out["by_module"].items()]
        if parts:
            most = max(t["frames"] for _, t in parts)
            rows = [[text(p), milliseconds(t["ms"]), number(t["frames"], bar=share(t["frames"], most))]
                    for p, t in parts]  # fmt: skip
            made.tables.append(Table(f"Where the latency of {name} comes from", ["module", "time", "frames"], rows))
            known = all(t["ms"] is not None for _, t in parts)
            values = [(p, t["ms"] if known else t["frames"]) for p, t in parts[:ROWS]]
            made.plots.append(Plot(f"Latency of {name} by module, in {'ms' if known else 'frames'}",
                                   horizontal_bars(values, "ms" if known else "frames")))  # fmt: skip
    if s["states"]:
        most = max(h["bytes"] for h in s["states"].values())
        rows = [[text(p or "(model)"), number(h["count"]), bytes_of(h["bytes"], share(h["bytes"], most))]
                for p, h in s["states"].items()]  # fmt: skip
        made.tables.append(Table("Where the state lies", ["module", "tensors", "bytes"], rows))
    return made


def _time(t: Mapping[str, Any]) -> str:
    return f"{t['ms']:g} ms" if t.get("ms") is not None else f"{t['frames']:g} frames"


def _words(data: Mapping[str, Any]) -> Section | None:
    w = data.get("word_errors")
    if not w:
        return None
    made = Section("words", "Word errors when it was compiled")
    made.facts = [("words", str(w["words"])), ("recordings", str(w["recordings"]))]
    rows = [[text(name), percent(rate)] for name, rate in w["rates"].items()]
    made.tables.append(Table("Word error rate", ["what was run", "rate"], rows))
    if w.get("left_out"):
        why = ", ".join(f"{n} {kind}" for kind, n in (w.get("reasons") or {}).items())
        made.notes.append(f"{w['left_out']} recordings left out" + (f": {why}" if why else ""))
    return made


def _passes(data: Mapping[str, Any]) -> Section:
    steps = data.get("passes", [])
    changed = sum(s["changed"] for s in steps)
    made = Section("passes", "Passes", intro=f"{len(steps)} passes ran, {changed} of them changed the graph.")
    rows, before, most = [], data.get("ops_captured"), max((s["seconds"] for s in steps), default=0)
    for s in steps:
        rows.append([text(s["name"]), number(before), number(s["ops"], state="good" if s["changed"] else ""),
                     number(s["changes"]), number(s["seconds"], "{:.3f} s", share(s["seconds"], most))])  # fmt: skip
        before = s["ops"]
    made.tables.append(Table("Every pass in order", ["pass", "ops before", "ops after", "rewrites", "time"], rows))
    return made


def _remarks(remarks: list[str]) -> Section:
    made = Section("remarks", "Remarks and warnings")
    made.tables.append(Table("What passes noticed", ["remark"], [[text(r)] for r in remarks], shown=20))
    return made

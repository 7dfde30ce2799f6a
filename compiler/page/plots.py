"""Plots as SVG that takes its colours from the page: bars, intervals, and a profile along a graph."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import count

from ...lowering.target import needs

# Drawn in these, which become variables of the page's style sheet, so that a dark page has light ink.
COLOURS = {"#010101": "var(--ink)", "#020202": "var(--faint)", "#030303": "var(--accent)", "#040404": "var(--bad)"}
INK, FAINT, ACCENT, BAD = COLOURS
WIDTH = 7.6  # inches, of 72 units each
_numbers = count(1)


def horizontal_bars(values: Sequence[tuple[str, float]], unit: str) -> str:
    """A bar for each name, the first on top, with its value behind."""
    figure, axes = _axes(0.5 + 0.26 * len(values))
    places = range(len(values))
    axes.barh(places, [v for _, v in values], color=ACCENT, height=0.66)
    for i, (_, v) in enumerate(values):
        axes.text(v, i, f" {v:.4g}", va="center", ha="left", color=INK, fontsize=9)
    axes.set_yticks(places, [_short(n) for n, _ in values])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(unit)
    return _svg(figure)


def intervals(values: Sequence[tuple[str, float, Sequence[float]]]) -> str:
    """A point with its interval for each name; shares, drawn in percent."""
    figure, axes = _axes(0.7 + 0.32 * len(values))
    for i, (_, rate, (low, high)) in enumerate(values):
        axes.plot([100 * low, 100 * high], [i, i], color=ACCENT, linewidth=2.5, solid_capstyle="round")
        axes.plot([100 * rate], [i], "o", color=ACCENT, markersize=7)
    axes.set_yticks(range(len(values)), [_short(n) for n, _, _ in values])
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("percent")
    return _svg(figure)


def spread(values: Sequence[tuple[str, Sequence[float]]], unit: str, names: Sequence[str]) -> str:
    """For each name a line from the least to the largest of its numbers, each marked; `names` say what they are."""
    figure, axes = _axes(0.9 + 0.32 * len(values))
    marks = "o|D^sv"
    for i, (_, numbers) in enumerate(values):
        axes.plot([min(numbers), max(numbers)], [i, i], color=FAINT, linewidth=2)
        for k, n in enumerate(numbers):
            axes.plot([n], [i], marks[k % len(marks)], color=ACCENT, markersize=7 if k == 0 else 9,
                      label=names[k] if i == 0 else None, markeredgewidth=2)  # fmt: skip
    axes.set_yticks(range(len(values)), [_short(n) for n, _ in values])
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    legend = axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(names), frameon=False, fontsize=9)
    for label in legend.get_texts():
        label.set_color(INK)
    return _svg(figure)


def profile(values: Sequence[tuple[str, float]], unit: str, wrong: Sequence[int] = ()) -> str:
    """A line along a graph, a point a module; places in `wrong` are marked."""
    figure, axes = _axes(3.0)
    heights = [v for _, v in values]
    axes.plot(range(len(values)), heights, color=ACCENT, linewidth=1.6, marker="o", markersize=3)
    axes.plot(list(wrong), [heights[i] for i in wrong], "o", color=BAD, markersize=8, fillstyle="none",
              markeredgewidth=2)  # fmt: skip
    step = max(1, len(values) // 16)
    chosen = list(range(0, len(values), step))
    axes.set_xticks(chosen, [_short(values[i][0], 28) for i in chosen], rotation=55, ha="right", rotation_mode="anchor")
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=min(0, *heights))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    return _svg(figure)


def _axes(height: float):
    needs("matplotlib", "report")
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.set_axisbelow(True)
    return figure, axes


def _short(name: str, most: int = 44) -> str:
    """A name for an axis; matplotlib takes what lies between dollars for mathematics."""
    name = name.replace("$", r"\$")
    return name if len(name) <= most else "…" + name[1 - most :]


def _svg(figure) -> str:
    """The drawing without a header, its colours those of the page, its names apart from those of other drawings."""
    import matplotlib

    out, number = io.StringIO(), next(_numbers)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": str(number)}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    for drawn, variable in COLOURS.items():
        text = text.replace(drawn, variable)
    text = re.sub(r'id="([^"]+)"', rf'id="p{number}-\1"', text)
    text = re.sub(r'(href="#|url\(#)([^")]+)', rf"\g<1>p{number}-\2", text)
    size = re.search(r'<svg[^>]*?viewBox="[^"]*"', text)
    head = re.sub(r'\s(width|height)="[^"]*"', "", text[: text.index(">") + 1])
    if size is None:
        raise ValueError("the drawing has no viewBox")
    return head.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1) + text[text.index(">") + 1 :]

"""The proof at compile time: traced model, final graph and emitted file agree on the user's sample at two lengths.

One with states of its own is called several times in turn, each of the three with the states that it has made itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.errors import NumericalError
from ..ir.graph import Graph, Module
from ..ir.text import retyped
from ..lowering.target import Session
from .ctc import Tokens, compared
from .in_turn import calls_of, interpreted, joined
from .numerics import Difference, difference
from .samples import Feeds, real_outputs, stored_feeds

# float32 results differ by the order of sums; 1e-4 of the largest output covers a few hundred layers of it.
FLOAT32 = 1e-4
# A model that amplifies rounding is held to its own: PyTorch's distance from float64. Kernels differ by 10 dB (XNNPACK
# adds up all products of a result in a row, PyTorch in blocks); twice as much, a factor of 10, is still rounding.
KERNELS, LEAST_SENSIBLE = 10.0, 1e-3
# What a precision may cost at the last output in dB, unless --min-snr says otherwise.
MIN_SNR = {"float16": 40.0, "int8": 20.0, "int8+float16": 20.0, "int4": 10.0}


@dataclass
class Proof:
    """The worst difference found: file against model, graph against model, file against graph; and at which sizes."""

    file: Difference
    graph: Difference
    between: Difference
    lengths: list[dict[str, list[int]]]


def prove(
    reference: Callable[..., tuple[np.ndarray, ...]],
    module: Module,
    open_session: Callable[[], Session],
    feeds: list[Feeds],
    precision: str,
    min_snr: float | None = None,
    tokens: Tokens | None = None,
    locate: Callable[[Feeds], str] = lambda feed: "",
) -> Proof:
    """Compare the three on every feed; raise `NumericalError` (exit status 5) where they part.

    `open_session` loads the file, after the graph has been evaluated. `locate(feed)` is asked, once, where in the graph
    the file parts from it. `tokens` of the file are held to its own log-probabilities, and to nothing else.
    `reference(*calls)` gives the model's outputs, `joined` (see `in_turn`) where there are several calls.
    """
    graph = next(iter(module.graphs.values()))
    names = graph.output_names
    turns = [calls_of(graph, feed) for feed in feeds]
    expected, meant = [], []
    for calls in turns:
        expected.append(compared(tokens, names, finite(names, reference(*calls))))
        meant.append(compared(tokens, names, meaning(module, *calls)))
    # A runtime holds the weights once or twice more: what was computed for the graph goes first.
    module.weights.release()
    session, found, first = open_session(), [], []
    for calls, right, graphs in zip(turns, expected, meant):
        actual = compared(tokens, names, played(session, graph, calls, tokens))
        found.append((difference(actual, right), difference(graphs, right), difference(actual, graphs)))
        if len(calls) > 1:
            first.append(difference([a[0] for a in actual], [r[0] for r in right]))
    file, own, between = (worst(f[i] for f in found) for i in range(3))
    proof = Proof(file, own, between, [{n: list(a.shape) for n, a in feed.items()} for feed in feeds])
    hold("the rewritten graph", "the model", own, precision, min_snr)
    rounding = FLOAT32
    if precision == "float32" and min_snr is None and file.error > FLOAT32:
        exact = [compared(tokens, names, in_float64(module, *calls)) for calls in turns]
        model = worst(difference(right, e) for right, e in zip(expected, exact))
        rounding = min(max(FLOAT32, KERNELS * model.error), LEAST_SENSIBLE)
    later = first and worst(first).error <= rounding and "the first of several calls in turn agrees: it is the states"
    hold("the emitted file", "the model", file, precision, min_snr, lambda: later or locate(feeds[0]), rounding)
    return proof


def hold(
    what: str,
    reference: str,
    seen: Difference,
    precision: str,
    min_snr: float | None = None,
    where: Callable[[], str] = lambda: "",
    rounding: float = FLOAT32,
) -> None:
    """Raise `NumericalError` where a difference is more than `rounding`, or than the precision (`min_snr`) allows."""
    least = min_snr if min_snr is not None else MIN_SNR.get(precision)
    if precision == "float32" and min_snr is None:
        wrong, wanted = not seen.error <= rounding, f"at most {rounding:g} is rounding"
        code, hints = "SC502", ["--bisect finds the pass, and in it the rewrite, that breaks it"]
    else:
        wrong, wanted = not seen.snr >= (least or 0), f"at least {least:g} dB wanted"
        code = "SC503"
        hints = ["--calibrate DIR with real recordings", "--min-snr DB accepts less", "keep more layers in float"]
    if wrong:
        places = [w for w in (where(),) if w]
        raise NumericalError(code, f"{what} is not {reference}: {seen} ({wanted})", places, hints)


def played(session: Session, graph: Graph, calls: Sequence[Feeds], tokens: Tokens | None) -> tuple[np.ndarray, ...]:
    """What a file of `graph` gives for calls in turn from its initial states, `joined`; its tokens are checked."""
    session.reset()
    made = []
    for feeds in calls:
        written = session.run_named(stored_feeds(graph, feeds))
        made.append(real_outputs(graph, [written[name] for name in graph.output_names]))
        if tokens is not None:
            tokens.check(graph.output_names, made[-1], graph)
    return joined(made)


def meaning(module: Module, *calls: Feeds) -> tuple[np.ndarray, ...]:
    """The outputs of the first graph in the interpreter, as real numbers; `joined` where there are several calls."""
    return interpreted(next(iter(module.graphs.values())), *calls)


def in_float64(module: Module, *calls: Feeds) -> tuple[np.ndarray, ...]:
    """`meaning`, with every float in 64 bits."""
    return meaning(retyped(module), *map(wide, calls))


def wide(feeds: Feeds) -> Feeds:
    """Inputs with every float in 64 bits."""
    return {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in feeds.items()}


def finite(names: list[str], arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The outputs of the model itself, if there is no NaN in them. Raises `NumericalError` SC501."""
    for name, array in zip(names, arrays):
        if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
            raise NumericalError(
                "SC501",
                f"the model gives NaN in output {name}",
                hints=["another sample: --calibrate DIR, or inputs from Python"],
            )
    return arrays


def worst(found: Iterable[Difference]) -> Difference:
    """The largest error and the least SNR of several."""
    found = list(found)
    return Difference(max(d.error for d in found), min(d.snr for d in found))

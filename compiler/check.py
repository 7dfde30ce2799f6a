"""The proof at compile time: traced model, final graph and emitted file agree on the user's sample at two lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..ir.errors import NumericalError
from ..ir.graph import Module
from ..ir.interpreter import initial_states
from ..ir.interpreter import run as interpret
from ..ir.text import retyped
from ..lowering.target import Session
from .ctc import Tokens, compared
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
    reference: Callable[[Feeds], tuple[np.ndarray, ...]],
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
    """
    graph = next(iter(module.graphs.values()))
    names = graph.output_names
    expected, meant = [], []
    for feed in feeds:
        expected.append(compared(tokens, names, finite(names, reference(feed))))
        meant.append(compared(tokens, names, meaning(module, feed)))
    # A runtime holds the weights once or twice more: what was computed for the graph goes first.
    module.weights.release()
    session, found = open_session(), []
    for feed, right, graphs in zip(feeds, expected, meant):
        session.reset()
        written = session.run_named(stored_feeds(graph, feed))
        actual = real_outputs(graph, [written[name] for name in names])
        if tokens is not None:
            tokens.check(names, actual, graph)
        actual = compared(tokens, names, actual)
        found.append((difference(actual, right), difference(graphs, right), difference(actual, graphs)))
    file, own, between = (worst(f[i] for f in found) for i in range(3))
    proof = Proof(file, own, between, [{n: list(a.shape) for n, a in feed.items()} for feed in feeds])
    hold("the rewritten graph", "the model", own, precision, min_snr)
    rounding = FLOAT32
    if precision == "float32" and min_snr is None and file.error > FLOAT32:
        exact = [compared(tokens, names, in_float64(module, feed)) for feed in feeds]
        model = worst(difference(right, e) for right, e in zip(expected, exact))
        rounding = min(max(FLOAT32, KERNELS * model.error), LEAST_SENSIBLE)
    hold("the emitted file", "the model", file, precision, min_snr, lambda: locate(feeds[0]), rounding)
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


def meaning(module: Module, feeds: Feeds) -> tuple[np.ndarray, ...]:
    """The outputs of the first graph in the interpreter, as the real numbers that they stand for."""
    graph = next(iter(module.graphs.values()))
    return real_outputs(graph, interpret(graph, stored_feeds(graph, feeds), initial_states(graph)))


def in_float64(module: Module, feeds: Feeds) -> tuple[np.ndarray, ...]:
    """`meaning`, with every float in 64 bits."""
    return meaning(retyped(module), wide(feeds))


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

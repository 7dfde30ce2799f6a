"""The proof of a streaming compilation: what a rewrite loses, and that chunk by chunk is exactly the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..ir.errors import NumericalError
from ..ir.expr import symbols
from ..ir.graph import Graph, Module
from ..ir.interpreter import bind_sizes
from ..ir.text import retyped
from ..ir.turns import calls_in
from ..lowering.manifest import manifest_of
from ..lowering.stream_session import BatchSession
from ..lowering.streaming import RANGE_SUFFIX, Layout, layout_of
from ..lowering.target import Session
from ..passes.free_batch import BATCH
from .check import FLOAT32, MIN_SNR, Proof, finite, hold, in_float64, meaning, wide, worst
from .ctc import Tokens, compared
from .numerics import Difference, difference
from .samples import Feeds, real_outputs, resized, stored_feeds
from .stages import Stages
from .step_runner import run_stream

# Streamed and whole differ by the order of sums. In float16 that is 11 bits of mantissa; in int8 a sum next to a tie
# goes to the other code, one step of the scale, which later layers carry on.
STREAMED_SNR = {"float16": 40.0, "int8": 40.0, "int8+float16": 40.0}
FLOAT64 = 1e-9  # sums in another order, through some hundred layers; a wrong frame is far above
MOST_CHUNKS = 48  # of the longest sample that the proof runs


@dataclass
class StreamProof:
    """What was found: the step graph and the file, chunk by chunk, against the whole graph that they are made from."""

    graph: Difference
    file: Difference

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {"graph_against_whole": self.graph.as_dict(), "file_against_whole": self.file.as_dict()}


def rewrite_loss(
    reference: Callable[[Feeds], tuple[np.ndarray, ...]],
    stages: Stages,
    feeds: list[Feeds],
    run: Callable[[Graph, Feeds], tuple[np.ndarray, ...]],
    tokens: Tokens | None = None,
) -> Difference:
    """What the rewrites lose on `feeds`; raises where the graph was not the model even before them."""
    normal, rewritten = (next(iter(m.graphs.values())) for m in (stages.normal, stages.rewritten))
    expected = [finite(normal.output_names, reference(*calls_in(feed))) for feed in feeds]
    own = lambda graph, feed: compared(tokens, graph.output_names, run(graph, feed))
    before = worst(difference(own(normal, feed), right) for feed, right in zip(feeds, expected))
    hold("the captured graph", "the model", before, "float32")
    ends = lambda feed, right: in_the_end(rewritten, own(rewritten, feed), right)
    return worst(difference(ends(feed, right), right) for feed, right in zip(feeds, expected))


def loss_feeds(feeds: list[Feeds], fed: list[Feeds], stages: Stages) -> list[Feeds]:
    """`feeds`, and the first of them at the lengths of `fed`, one of which is longer than what a rewrite leaves.

    A context that a rewrite limits may be longer than all `feeds`: nothing is lost there.
    """
    if not fed:
        return feeds
    whole, normal = (next(iter(m.graphs.values())) for m in (stages.whole, stages.normal))
    own, made = bind_sizes(normal, feeds[0]), list(feeds)
    for feed in fed:
        lengths = bind_sizes(whole, stored_feeds(whole, feed))
        made.append(resized(feeds[0], normal, own | {n: lengths[n] for n in own if n != BATCH and n in lengths}))
    return made


def in_the_end(graph: Graph, found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs, at their last frame where the model answers once and the rewritten one at every frame."""
    made = []
    for v, a, b in zip(graph.outputs, found, wanted):
        axis = next((i for i, d in enumerate(v.type.shape) if d.time is not None), 0)
        made.append(a.take(-1, axis) if a.ndim == b.ndim + 1 and a.size else a)
    return made


def stream_feeds(
    feeds: Feeds, whole: Graph, step: Graph, layout: Layout, limits: Mapping[str, list[int | None]]
) -> list[Feeds]:
    """The feeds at two lengths: longer than what the states remember and no multiple of a chunk; less than a chunk.

    Lengths stay within `limits`, so the second is as short as the model allows. Every stream of the batch gets a row.
    """
    first = layout.inputs[0]
    (symbol,) = symbols(first.length)
    least, most = limits.get(symbol, [1, None])
    sizes = bind_sizes(whole, stored_feeds(whole, feeds))
    own = max(t for t in (sizes[symbol], least or 1))
    chunk_ticks = next(t for t in range(1, layout.chunk + 1) if first.frames(t) >= layout.chunk)
    wanted = min(max(own, (memory(step) + 3) * chunk_ticks), MOST_CHUNKS * chunk_ticks)
    within = lambda t: max(least or 1, t if most is None else min(t, most))
    uneven = next(
        (t for t in range(within(wanted), within(wanted) + layout.chunk + 1)
         if within(t) == t and first.frames(t) % layout.chunk),
        within(wanted),
    )  # fmt: skip
    short = within(max(1, chunk_ticks * 2 // 3))
    others = sizes | {n: layout.batch for n in sizes if n == "batch"}
    return [resized(feeds, whole, others | {symbol: t}) for t in dict.fromkeys((uneven, short))]


def memory(step: Graph) -> int:
    """Chunks that the longest history of a step graph goes back."""
    ratios = [0]
    for op in step.ops:
        if op.kind == "history":
            axis = op.attrs["axis"]
            ratios.append(-(-op.operands[1].type.sizes[axis] // max(1, op.operands[0].type.sizes[axis])))
    return max(ratios)


def prove_stream(
    reference: Callable[[Feeds], tuple[np.ndarray, ...]],
    stages: Stages,
    module: Module,
    open_session: Callable[[], Session],
    feeds: list[Feeds],
    precision: str,
    min_snr: float | None = None,
    tokens: Tokens | None = None,
) -> tuple[Proof, StreamProof]:
    """Compare model, whole graph, step graph and file; raise `NumericalError` (exit status 5) where they part.

    The whole graph is held to the model (to the rewritten one where there is a rewrite), the step graph and the file,
    fed in pieces of random sizes with NaN behind the end, to the whole graph; `tokens` to the file's own scores.
    """
    whole, step = (next(iter(m.graphs.values())) for m in (stages.whole, module))
    names, expected, right, graphs = whole.output_names, [], [], []
    own = partial(compared, tokens, names)
    for feed in feeds:
        expected.append(finite(names, reference(feed)))
        right.append(own(meaning(stages.whole, feed)))
        meant = own(meaning(stages.rewritten, feed)) if stages.rewritten else expected[-1]
        hold("the optimized graph", "the model" if stages.rewritten is None else "the rewritten one",
             difference(right[-1], meant), precision, None if stages.rewritten else min_snr)  # fmt: skip
        graphs.append(difference(own(_real(step, names, run_stream(step, stored_feeds(whole, feed)))), right[-1]))
    if precision in STREAMED_SNR and not worst(graphs).snr >= STREAMED_SNR[precision]:
        # One code more or less, where float32 rounds otherwise, can grow on its way: float64 tells that from a fault.
        graphs = [in_double(stages.whole, module, feed, own) for feed in feeds]
        _hold_streamed("the step graph in float64", worst(graphs), error=FLOAT64)
    else:
        _hold_streamed("the step graph", worst(graphs), STREAMED_SNR.get(precision))
    module.weights.release()
    batch = BatchSession(
        open_session(), {p.name: stored_feeds(whole, feeds[0])[p.name] for p in layout(module).constants}, np.nan
    )
    files, models = [], []
    for turn in range(len(feeds)):
        given = [feeds[(turn + i) % len(feeds)] for i in range(batch.batch)]
        for i, out in enumerate(_streamed(batch, [stored_feeds(whole, f) for f in given], turn)):
            which = (turn + i) % len(feeds)
            real = _real(step, names, out)
            if tokens is not None:
                tokens.check(names, real, whole)
            real = own(real)
            files.append(difference(real, _rows(right[which], batch, i)))
            model = _rows(expected[which], batch, i)
            models.append(difference(in_the_end(whole, real, model), model))
    optimized = worst(difference(in_the_end(whole, a, b), b) for a, b in zip(right, expected))
    proof = Proof(worst(models), optimized, worst(files),
                  [{n: list(a.shape) for n, a in f.items()} for f in feeds])  # fmt: skip
    _hold_streamed("the emitted file", proof.between, MIN_SNR.get(precision))
    if min_snr is not None:
        hold("the emitted file, streamed,", "the model", proof.file, precision, min_snr)
    return proof, StreamProof(worst(graphs), proof.between)


def in_double(
    whole: Module, step: Module, feed: Feeds, own: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
) -> Difference:
    """How far the step graph, chunk by chunk, is from the whole, both computed in float64."""
    graph, steps = (next(iter(retyped(m).graphs.values())) for m in (whole, step))
    streamed = run_stream(steps, stored_feeds(graph, wide(feed)))
    return difference(own(_real(steps, graph.output_names, streamed)), own(in_float64(whole, feed)))


def layout(module: Module) -> Layout:
    """The layout of a step graph."""
    graph = next(iter(module.graphs.values()))
    return layout_of(manifest_of(graph, "", "", "float32", module.meta))


def _hold_streamed(what: str, seen: Difference, snr: float | None = None, error: float = FLOAT32) -> None:
    if (not seen.error <= error) if snr is None else (not seen.snr >= snr):
        said = f"at most {error:g} is rounding" if snr is None else f"at least {snr:g} dB wanted"
        raise NumericalError(
            "SC505",
            f"{what}, chunk by chunk, is not the whole: {seen} ({said})",
            hints=["this is a fault of speechc: --dump-ir DIR keeps the graphs to report"],
        )


def _real(step: Graph, names: list[str], arrays) -> tuple[np.ndarray, ...]:
    """Streamed outputs as real numbers; a step graph returns ranges beside them."""
    alone = Graph(step.name, step.weights)
    for v, name in zip(step.outputs, step.output_names):
        if name in names and not (name.endswith(RANGE_SUFFIX) and name not in names):
            alone.output(v, name)
    return real_outputs(alone, arrays)


def _rows(arrays, batch: BatchSession, i: int) -> list[np.ndarray]:
    if batch.batch == 1:
        return list(arrays)
    axes = {t.name: t.batch_axis for t in batch.layout.outputs}
    names = [p.name for p in batch.manifest.outputs if p.name in axes or p.name in batch.layout.plain]
    return [a if axes.get(n) is None else a.take([i], axes[n]) for n, a in zip(names, arrays)]


def _streamed(batch: BatchSession, feeds: list[Feeds], seed: int) -> list[list[np.ndarray]]:
    """What each stream gives for its row of its feed, all fed side by side in pieces of random sizes."""
    random, tracks = np.random.default_rng(seed), batch.layout.inputs
    first, chunk = tracks[0], batch.layout.chunk
    batch.reset()
    streams = range(batch.batch)
    rows = [
        [f[t.name] if batch.batch == 1 else f[t.name].take([i], t.batch_axis) for t in tracks]
        for i, f in enumerate(feeds)
    ]
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in streams]
    at = [0] * batch.batch  # frames of the first input
    cut = lambda a, t, start, stop: a[(slice(None),) * t.axis + (slice(start, stop),)]
    share = lambda t, n, i: (
        rows[i][tracks.index(t)].shape[t.axis] if n >= rows[i][0].shape[first.axis] else int(n * t.rate)
    )
    while any(at[i] < rows[i][0].shape[first.axis] for i in streams):
        chunks = {}
        for i in streams:
            ahead = at[i] + int(random.integers(0, 2 * chunk + 1))
            chunks[i] = [cut(a, t, share(t, at[i], i), share(t, ahead, i)) for a, t in zip(rows[i], tracks)]
            at[i] = ahead
        for i, out in batch.step(chunks).items():
            parts[i].append(out)
    for i, out in batch.flush().items():
        parts[i].append(out)
    axes = {t.name: t.axis for t in batch.layout.outputs}
    names = [p.name for p in batch.manifest.outputs if p.name in axes or p.name in batch.layout.plain]
    return [
        [np.concatenate(p, axes[n]) if n in axes else p[-1] for n, p in zip(names, zip(*parts[i], strict=True))]
        for i in streams
    ]

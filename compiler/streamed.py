"""What a streaming compilation tells its user: latency and state by module, and the refusal of too much latency."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..ir.errors import UnsupportedError
from ..ir.graph import Graph, Module
from .check_stream import StreamProof
from .durations import duration_text, ticks
from .latency import Held, Late, kinds_by_module, latencies, states_by_module
from .stages import Stages
from .streaming import Streaming

# What makes latency, and what lessens it.
WAYS_OUT = {
    ("attention", "softmax"): "--attention chunk:DUR,left=DUR with a shorter chunk or less right context",
    ("conv", "max_pool", "avg_pool", "frame"): "--conv chunk, or --conv causal",
    ("conv_transpose", "overlap_add"): "--conv causal",
    ("lstm", "gru", "rnn"): "--bidirectional latency-controlled:chunk=DUR,right=DUR with less of both, or forward",
    ("mean", "cumsum"): "--normalise cumulative",
}
SHOWN = 8  # modules named in an error


@dataclass
class Streamed:
    """A step file: its chunk in ticks, ticks a second (None: not known), and where its latency and state come from."""

    chunk: int
    hz: Fraction | None
    batch: int
    late: list[Late]
    held: dict[str, Held]
    proof: StreamProof | None = None

    @property
    def latest(self) -> Late | None:
        """The output with the longest delay."""
        return max(self.late, key=lambda item: item.ticks, default=None)

    @property
    def state_bytes(self) -> int:
        """Bytes of all states."""
        return sum(h.bytes for h in self.held.values())

    def ms(self, n: Fraction | int) -> float | None:
        """Ticks in milliseconds, where the rate is known."""
        return None if self.hz is None else float(1000 * Fraction(n) / self.hz)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; times in ms (null where the rate is not known) and in frames of the input."""
        times = lambda n: {"frames": float(n) if Fraction(n).denominator > 1 else int(n), "ms": self.ms(n)}
        return {
            "chunk": times(self.chunk),
            "batch": self.batch,
            "outputs": {
                late.output: {
                    "rate": str(late.rate),
                    "delay": late.delay,
                    "latency": times(late.ticks),
                    "by_module": {path: times(n) for path, n in late.parts.items()},
                }
                for late in self.late
            },
            "state_bytes": self.state_bytes,
            "states": {path: {"count": h.count, "bytes": h.bytes} for path, h in self.held.items()},
            **({} if self.proof is None else self.proof.as_dict()),
        }


def describe(stages: Stages, module: Module, asked: Streaming, hz: Fraction | None) -> Streamed:
    """The facts of a step graph, noted in `module.meta` as well; raises where it is later than `--max-latency`."""
    stages.describe(module, hz)
    graph, facts = next(iter(module.graphs.values())), module.meta["streaming"]
    late = [item for item in latencies(graph) if not item.output.endswith(".range")]
    found = Streamed(facts["chunk"], hz, facts["batch"], late, states_by_module(graph))
    if asked.max_latency is not None:
        refuse_late(found, asked.max_latency, graph)
    return found


def refuse_late(found: Streamed, most: str, graph: Graph) -> None:
    """Raise `UnsupportedError` SC209 where an output is later than `most`, its own chunk included.

    A frame waits for its chunk to be full, and then for what comes after it: both are latency to a user.
    """
    allowed, latest = ticks(most, found.hz, "--max-latency"), found.latest
    total = found.chunk + (latest.ticks if latest else 0)
    if total <= allowed:
        return
    say = lambda n: duration_text(int(n), found.hz) if Fraction(n).denominator == 1 else f"{float(n):g} frames"
    kinds = kinds_by_module(graph)
    parts = {path: n for path, n in (latest.parts if latest else {}).items() if n > 0}
    costly = list(parts)[:SHOWN]
    hints = [
        hint
        for ops, hint in WAYS_OUT.items()
        if any(kinds.get(path, set()) & set(ops) for path in costly)
    ]  # fmt: skip
    raise UnsupportedError(
        "SC209",
        f"the latency is {say(total)} ({say(found.chunk)} of it the step's own chunk), above --max-latency {most}",
        [f"{path or '(model)'}: {say(n)}" for path, n in list(parts.items())[:SHOWN]],
        [*hints, "a smaller --stream"],
    )

"""Attention whose mask is a band: queries wait for their last key, keys and values of the past are kept.

The window of keys in front of a step is always as long; what of it a query may see is a constant of the step's phase
(an attention chunk need not divide a step), and frames that are not real are seen by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...ir.graph import Op, Value
from ...ir.types import DTYPES, Time
from .band import SIZES, Band, band_of, ticks_for, unbounded, whole_past
from .facts import Coord, Fact, Score, Stream, refuse, same_stream
from .finite import guarded
from .framewise import ATTENTION, framewise
from .probe import NEVER, Probe
from .replay import replayed, source
from .rules import rule
from .scores import Window, biased
from .step import Step

LEFT = "--left-context 2560ms bounds the past  (changes the output; its loss is measured and printed)"


@dataclass(frozen=True)
class _Operands:
    q: Stream
    k: Stream
    v: Stream
    mask: Value | None


@rule("attention")
def _(step: Step, op: Op) -> Stream:
    facts: list[Fact | None] = [None if v is None else step.fact(v) for v in op.operands]
    q, k, v = facts[:3]
    rank = op.operands[0].type.rank
    over_time = [isinstance(f, Stream) and f.axis == rank - 2 for f in (q, k, v)]
    if not any(over_time[1:]):
        if isinstance(facts[3], Coord | Score) if len(facts) > 3 else False:
            raise refuse("SC204", "its mask depends on time, its keys do not", op)
        return framewise(step, op)  # within a frame, or over a memory that stays
    if not all(over_time):
        raise refuse("SC204", "its queries do not move with its keys", op)
    q, k, v = (step.plain(f) for f in (q, k, v))
    if not (same_stream(q.time, k.time) and same_stream(k.time, v.time)):
        raise refuse("SC207", f"joins streams of {q.time.length} and {k.time.length} frames", op)
    return _banded(step, op, q, k, v, op.operands[3] if len(op.operands) > 3 else None)


def _banded(step: Step, op: Op, q: Stream, k: Stream, v: Stream, mask: Value | None) -> Stream:
    band, late = _band(step, op, q, mask), max(k.time.delay, v.time.delay)
    frames = step.frames(q.time)
    delay = band.delay(frames, q.time.delay, late)
    past = band.past(frames, delay, late)
    _note_uneven(step, op, band, delay - band.delay(frames * band.phases(frames), q.time.delay, late))
    q = step.delayed(q, delay)
    seen = _seen(step, op, k, v, late, past)
    window = Window(step, op, band, frames, delay, late, past, seen[0].type.shape[-2], q)
    bias = biased(window, mask) if mask is not None and mask.type.is_float else None
    attrs = {**op.attrs, "causal": False}
    made = step.b.emit("attention", (q.value, *seen, _added(window, bias)), attrs)
    return step.stream(op.result, made)


def _note_uneven(step: Step, op: Op, band: Band, later: int) -> None:
    """Tell once that steps which are no whole attention chunks are late, and what would not be."""
    rate = step.fact(op.operands[0]).time.rate
    fits = f"--stream with a multiple of {(band.period / rate).numerator} input frames waits less"
    if later > 0 and not any(message.endswith(fits) for message, _ in step.notes):
        why = "steps that are no multiple of the attention chunk add latency in every layer of attention"
        step.notes.append((f"{why}, {(later / rate).__ceil__()} input frames in this one: {fits}", op))


def _added(window: Window, bias: Value | None) -> Value:
    """The mask of a step's scores: a number that hides a key, and the bias where it does not.

    Where every frame sees itself the number is finite: no runtime has to look for queries that see nothing. They stay
    only among frames that are not real.
    """
    b, shown, dtype = window.step.b, window.visible(), window.op.operands[0].type.dtype
    alone = not window.band.allowed(np.arange(window.band.period), np.zeros(window.band.period, int)).all()
    if bias is None and alone:
        return shown
    hidden = float("-inf") if alone else float(np.finfo(DTYPES[dtype]).min) / 4
    return b.where(shown, b.const(0.0, dtype) if bias is None else bias, b.const(hidden, dtype))


def _seen(step: Step, op: Op, k: Stream, v: Stream, late: int, past: int) -> list[Value]:
    """Keys and values with `past` frames in front: kept themselves, or what they are computed from.

    Frames that are not real must be finite: what has no weight is still multiplied by it.
    """
    kept = source(step, op) if step.options.cache == "memory" and past else None
    if kept is None:
        if step.options.cache == "memory":
            step.notes.append(("keeps keys and values: nothing smaller is known that they are made of", op))
        keys, values = (guarded(step, step.delayed(x, late)) for x in (k, v))
        return [step.history(x, past, role) for x, role in ((keys, "keys"), (values, "values"))]
    made = replayed(step, kept, step.history(kept.stream, past, "inputs"), list(op.operands[1:3]))
    return [guarded(step, replace(x, value=value)).value for x, value in zip((k, v), made)]


def _band(step: Step, op: Op, q: Stream, mask: Value | None) -> Band:
    """The band of the op's mask, run at growing lengths until it shows, and checked at two others."""
    if mask is None and not op.attrs["causal"]:
        raise refuse("SC204", "every frame sees the whole utterance: its mask is none", op, ATTENTION,
                     "--attention window:left=2560ms,right=0ms")  # fmt: skip
    allowed, most = None, int(step.options.most * q.time.rate)
    for n in SIZES:
        allowed = _allowed(step, op, mask, q.time, n)
        band = band_of(allowed)
        if band is not None:
            break
    else:
        if 0 < most <= SIZES[-1] and (band := whole_past(_allowed(step, op, mask, q.time, most)[:most, :most])):
            note = f"attention keeps all {most} frames that the model can take: its past has no other bound"
            if not any(message == note for message, _ in step.notes):
                step.notes.append((note, op))
            return band
        sides = unbounded(allowed)
        hints = [LEFT] if sides == "left" else [ATTENTION, "--attention window:left=2560ms,right=0ms"]
        raise refuse("SC204", f"what a frame sees has no bound ({sides})", op, *hints)
    for n in (len(allowed) * 2 // 3 + 1, len(allowed) // 2 + 3):
        again = _allowed(step, op, mask, q.time, n)
        i, j = np.indices(again.shape)
        if not np.array_equal(again, band.allowed(i, j - i)):
            raise refuse("SC204", "its mask at one length is not its mask at another", op, ATTENTION)
    return band


def _allowed(step: Step, op: Op, mask: Value | None, time: Time, frames: int) -> np.ndarray:
    """bool[n, n]: who sees whom, at a length of about `frames` frames."""
    probe = Probe(step, ticks_for(time.rate, frames))
    n = probe.shape(op.operands[0])[-2]
    seen = np.ones((n, n), bool)
    if mask is not None:
        array = probe.array(mask)
        shown = array if array.dtype == bool else ~(array <= NEVER)
        shown = np.broadcast_to(shown, (*shown.shape[:-2], n, n) if shown.ndim >= 2 else (n, n))
        seen = shown.reshape(-1, n, n).any(0)  # what no head sees, no window holds
    return np.tril(seen) if op.attrs["causal"] else seen

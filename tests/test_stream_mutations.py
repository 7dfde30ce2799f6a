"""Break each correctness rule of streaming, one at a time: the proof notices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from speechc.ir.errors import SpeechcError
from speechc.passes.stream import finite, running, scores, step, transposed, window
from speechc.passes.stream.band import Band
from speechc.passes.stream.clock import Clock
from speechc.passes.stream.step import Step
from stream_cases import Plan, drawn
from stream_proof import faults, step_of


def unmasked(*kinds):
    """`Step.masked` without its effect on some ops."""
    return lambda f: (
        lambda self, x, fill, front=True, behind=True: x if self.op.kind in kinds else f(self, x, fill, front, behind)
    )


def late_by(more: int):
    return lambda f: lambda *args: max(0, f(*args) + more)


def begins_at_once(f):
    return lambda s, x: s.b.reshape(s.b.less_equal(s.clock.int(0), s.clock.steps(2)), shape=(s.streams, 1))


def one_more(f):
    return lambda self, *args: self.b.add(f(self, *args), self.int(1))


def first_moved(f):
    return property(lambda self: f.fget(self) + 1)


def band_alone(f):
    """Which keys a query sees, frames that are not real among them."""
    return lambda w: w.of_phase(w.band.window(w.frames, w.delay, w.late, w.past), "band")


def not_delayed(f):
    def delayed(self, x, delay):
        return replace(x, value=self.retimed(x.value, x.axis, replace(x.time, delay=delay)))

    return delayed


# What is broken; builders of graphs that need it; where, the name of what holds it, and what stands in for it.
MUTATIONS = [
    ("R1 left: frames before the first are not padding", ("conv", "pad before window"), window, "padding_masked",
     lambda f: lambda s, x, pads: s.masked(x, pads.fill, False, pads.behind != 0)),
    ("R1 right: frames behind the last are not padding", ("conv", "pad before window"), window, "padding_masked",
     lambda f: lambda s, x, pads: s.masked(x, pads.fill, pads.front > 0 and x.time.delay > 0, False)),
    ("R1: a transposed convolution adds up garbage", ("conv_transpose",), Step, "masked", unmasked("conv_transpose")),
    ("R1: overlap-add adds up garbage", ("overlap_add",), Step, "masked", unmasked("overlap_add")),
    ("R1: max-pool is padded with 0", ("max_pool",), window, "_pooled", lambda f: lambda s, op, fill: f(s, op, 0.0)),
    ("R1: an average counts its padding", ("avg_pool",), window, "_counted",
     lambda f: lambda s, op, at: window._pooled(s, op, 0.0)),
    ("R1: int8 is padded with the code 0", ("integer conv", "integer pad"), step, "_stored",
     lambda f: lambda fill, type: f(fill, type) if type.quant is None else 0),
    ("R1: states do not start at the pad value", ("max_pool", "pad"), step, "_stored", lambda f: lambda fill, type: 0),
    ("R1: reflection begins at the edge", ("pad", "frame"), window, "look_ahead", late_by(-1)),
    ("R2: carries move before the first frame", ("lstm", "gru", "rnn"), running, "_begun", begins_at_once),
    ("R2: running sums begin with garbage", ("cumsum", "cummax"), Step, "masked", unmasked("cumsum", "cummax")),
    ("R3: garbage is not finite", ("attention chunk", "attention window"), finite, "_finite",
     lambda f: lambda s, v: True),
    ("R3: scores are not masked", ("attention chunk", "attention window"), scores.Window, "visible", band_alone),
    ("R4: distances are off by one", ("attention skew",), scores.Window, "first", first_moved),
    ("R5: the counter is off by one", ("sinusoidal positions", "learned positions", "rotary positions"),
     Clock, "position", one_more),
    ("the delay of a window is one short", ("conv", "frame", "max_pool"), window, "delay_of", late_by(-1)),
    ("joins do not wait", ("residual", "valid residual"), Step, "delayed", not_delayed),
    ("the band ends one too soon on the left", ("attention chunk", "attention window"), Band, "past", late_by(-1)),
    ("the band ends one too soon on the right", ("attention chunk", "attention window"), Band, "delay", late_by(-1)),
    ("the phase of a chunk is forgotten", ("attention chunk", "attention causal"), Band, "phases",
     lambda f: lambda *args: 1),
    ("the stream ends one too late", ("conv", "pad", "resize linear"), Clock, "end", one_more),
    ("what a crop takes from the end is let out", ("slice", "conv_transpose"), Step, "known",
     lambda f: lambda self, x: x),
    ("the silence between short kernels is left out", ("conv_transpose",), transposed, "_without",
     lambda f: lambda v, at, n: f(v, at, 0 if isinstance(n, int) else n)),
]  # fmt: skip


def graphs(builders):
    """A few graphs of some builders behind a join of unequal delays."""
    for seed in range(24):
        name = builders[seed % len(builders)]
        yield drawn(Plan(seed, (("residual", seed), (name, seed + 1), ("tanh", seed), (name, seed + 2))))


def wrong(case) -> bool:
    try:
        return any(faults(case, step_of(case)))
    except (SpeechcError, ValueError):  # what a broken rule makes may well not even type
        return True


@pytest.mark.parametrize("builders", sorted({m[1] for m in MUTATIONS}), ids=" ".join)
@pytest.mark.slow
def test_nothing_is_wrong_without(builders):
    assert not [case for case in graphs(builders) if wrong(case)]


@pytest.mark.parametrize("rule, builders, owner, name, instead", MUTATIONS, ids=[m[0] for m in MUTATIONS])
def test_the_proof_notices(rule, builders, owner, name, instead, monkeypatch):
    monkeypatch.setattr(owner, name, instead(vars(owner)[name]))
    assert any(map(wrong, graphs(builders)))

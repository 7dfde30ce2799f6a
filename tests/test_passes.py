"""One property for every registered pass: it keeps what it declares, on random graphs, alone and in any order.

The graphs of `pass_cases` give every pass something to do; `test_every_pass_finds_work` holds them to that, and
`test_the_property_notices` breaks a rule in a pass and expects the property to fail.
"""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from op_cases import random_graph
from pass_cases import idiom_graph, seeded_graphs
from speechc.compiler.manager import evaluate64, keeps, kept
from speechc.compiler.numerics import difference
from speechc.compiler.samples import real_outputs, stored_feeds
from speechc.ir.errors import IRError
from speechc.ir.graph import Module
from speechc.ir.interpreter import initial_states, run
from speechc.ir.text import clone, parse_module, print_module
from speechc.ir.verifier import verify
from speechc.passes import conv_bn, fold_scale, merge_linear, pointwise_conv, recognise_attention, rewrite
from speechc.passes.base import RESHAPING, Close, Context, Lossy, make, registered

# Derandomized, so that a run says the same every time: a value may lie on the edge of a grid.
DRAWN = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
PASSES = [name for name, cls in registered().items() if not isinstance(cls.equal, RESHAPING)]
TEXTS = [*PASSES, "merge-linear{of=''}", "quantize{mode='dynamic', least=1}", "quantize{mode='weights', least=1}"]
TEXTS += ["conv-context{mode='chunk', chunk=12}", "normalise{mode='fixed'}", "normalise{mode='window', frames=12}"]
TEXTS += ["bidirectional{mode='forward'}"]
COSTLY = ("float16", "integer-ports", "free-batch", "fuse-activation")  # quick: on any graph only, and their own tests
QUICK = [t for t in PASSES if t not in COSTLY][::2]  # all of them in the whole suite
SHORT = [t if t in QUICK else pytest.param(t, marks=pytest.mark.slow) for t in TEXTS]
DRAWINGS = 120
SHARE = 0.05  # of the drawings each pass has to change


def swept(module: Module) -> Module:
    """A copy without dead ops."""
    copy = clone(module)
    copy.main.sweep()
    return copy


def has_grids(module: Module) -> bool:
    return any(op.kind == "quantize" or op.attrs.get("out") or op.attrs.get("dynamic") for op in module.main.ops)


def all_feeds(case) -> list:
    return [case.feeds, case.longer()] if case.sizes else [case.feeds]


def well_conditioned(before: Module, case, budget: float) -> bool:
    """Whether inputs rounded to 8 bits move the outputs by much less than a lossy pass may."""
    for feeds in all_feeds(case):
        rounded = {}
        for name, array in feeds.items():
            step = np.abs(array).max() / 127 if np.issubdtype(array.dtype, np.floating) and array.size else 0
            rounded[name] = (np.rint(array / step) * step).astype(array.dtype) if step else array
        if difference(outputs(before, rounded), outputs(before, feeds)).snr < budget + 10:
            return False
    return True


def outputs(module: Module, feeds) -> tuple:
    """In float64; in float32 where an op computes on both integers and reals, whose element types have to agree."""
    try:
        return evaluate64(module, feeds)
    except IRError:
        states = initial_states(module.main)
        made = run(module.main, stored_feeds(module.main, feeds), states)
        return (*real_outputs(module.main, made), *states.values())


def check(text: str, case) -> bool:
    """Run a pass on a drawing and hold it to what it declares, at two lengths; whether it changed anything."""
    p, before, after = make(text), swept(case.module), clone(case.module)
    p.run(after.main, Context(samples=all_feeds(case)))
    unswept = print_module(after)
    after.main.sweep()
    verify(after)
    assert [v.name for v in after.main.inputs] == [v.name for v in before.main.inputs]
    printed = print_module(after)
    assert str(parse_module(printed)) == printed
    if printed != print_module(before) and not (
        isinstance(p.equal, Lossy) and not well_conditioned(before, case, p.equal.budget)
    ):
        for feeds in all_feeds(case):
            found = difference(outputs(kept(after, before), feeds), outputs(before, feeds))
            # A rounding on the edge of an 8-bit step moves a value by that step.
            stepped = isinstance(p.equal, Close) and has_grids(before) and found.snr > 40
            assert keeps(p, found) or stepped, f"{p} declares {p.equal}, but {found}\n{before}\n{after}"
    if p.name == "dce":
        return unswept != print_module(case.module)
    return printed != print_module(before)


@pytest.mark.parametrize("text", SHORT)
@given(case=idiom_graph())
@settings(DRAWN, max_examples=60)
def test_a_pass_keeps_what_it_declares(text, case):
    check(text, case)


@pytest.mark.parametrize("text", PASSES)
@given(case=random_graph(14))
@settings(DRAWN, max_examples=15)
def test_a_pass_keeps_what_it_declares_on_any_graph(text, case):
    check(text, case)


@lru_cache
def drawings() -> list:
    return list(seeded_graphs(DRAWINGS))


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.slow
def test_every_pass_finds_work(name):
    changed = 0
    for case in drawings():
        after = clone(case.module)
        before = print_module(after if name == "dce" else swept(after))
        make(name).run(after.main, Context(samples=[case.feeds]))
        after.main.sweep()
        changed += print_module(after) != before
    assert changed >= SHARE * DRAWINGS, (
        f"{name} changes {changed} of {DRAWINGS} idiom graphs: add an idiom that it looks for to tests/pass_cases.py"
    )


def without_mask(original):
    def take_apart(*args):
        found = original(*args)
        return found and (*found[:2], None, found[3])

    return take_apart


def wrong_axis(original):
    def build(self, g, m):
        y = original(self, g, m)
        return g.flip(y, axis=y.type.rank - 1 if m["conv"].attrs["channel_last"] else 1)

    return build


# (pass, the rule broken, where, what stands in for it)
MUTATIONS = [
    ("fuse-conv-bn", "forgets the bias", conv_bn, "_bias", lambda f: lambda eps: lambda *a: f(eps)(*a[:4])),
    ("fuse-conv-bn", "forgets then", rewrite, "bare", lambda f: lambda op, *but: True),
    ("fuse-conv-bn", "forgets eps", conv_bn, "_scale", lambda f: lambda gamma, var, eps: f(gamma, var, 0.0)),
    ("pointwise-conv-to-linear", "wrong axis", pointwise_conv.PointwiseConvToLinear, "build", wrong_axis),
    ("recognise-attention", "drops the mask", recognise_attention, "_take_apart", without_mask),
    ("recognise-attention", "drops scales", recognise_attention, "_scaled", lambda f: lambda op: (f(op)[0], 1.0)),
    ("fold-scale", "adds", fold_scale, "_times", lambda f: lambda factor: lambda a: a + np.float32(factor)),
    ("merge-linear{of=''}", "forgets then", merge_linear, "bare", lambda f: lambda op: f(op, "then")),
]


@pytest.mark.parametrize("text, rule, owner, name, instead", MUTATIONS, ids=[f"{m[0]} {m[1]}" for m in MUTATIONS])
def test_the_property_notices(text, rule, owner, name, instead, monkeypatch):
    monkeypatch.setattr(owner, name, instead(getattr(owner, name)))
    with pytest.raises(AssertionError, match="declares"):
        for case in seeded_graphs(1000):
            check(text, case)


ORDERS = st.permutations([n for n in PASSES if registered()[n].stage in ("normalize", "optimize", "legalize")])


@pytest.mark.parametrize("graphs", [idiom_graph(), random_graph(14)], ids=["idioms", "any"])
def test_any_order_of_passes_stays_equal(graphs):
    @given(case=graphs, order=ORDERS)
    @settings(DRAWN, max_examples=40)
    def holds(case, order):
        before, after = swept(case.module), clone(case.module)
        for name in order:
            make(name).run(after.main, Context())
            after.main.sweep()
            verify(after)
        for feeds in all_feeds(case):
            found = difference(outputs(kept(after, before), feeds), outputs(before, feeds))
            # Each pass may move the outputs by its own tolerance.
            assert found.error <= 1e-5 * len(order) or (has_grids(before) and found.snr > 40), f"{order}: {found}"

    holds()


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_says_what_it_is(name):
    cls = registered()[name]
    assert cls.__doc__ and cls.stage and cls.equal is not None
    assert str(make(str(cls()))) == str(cls())

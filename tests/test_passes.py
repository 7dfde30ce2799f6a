"""One property for every registered pass: it keeps what it declares, on random graphs, alone and in any order."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_cases import random_graph
from speechc.compiler.manager import compare, keeps
from speechc.ir.graph import Module
from speechc.ir.text import clone, parse_module, print_module
from speechc.ir.verifier import verify
from speechc.passes.base import Context, Streaming, make, registered

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
PASSES = [name for name, cls in registered().items() if not isinstance(cls.equal, Streaming)]


def module_of(case) -> Module:
    return Module({case.graph.name: case.graph}, case.graph.weights)


@pytest.mark.parametrize("name", PASSES)
@given(case=random_graph(14))
@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
def test_a_pass_keeps_what_it_declares(name, case):
    p, before = make(name), module_of(case)
    after = clone(before)
    context = Context(samples=[case.feeds])
    p.run(after.main, context)
    after.main.sweep()
    verify(after)
    assert [v.name for v in after.main.inputs] == [v.name for v in before.main.inputs]
    assert str(parse_module(print_module(after))) == print_module(after)
    if print_module(after) != print_module(before):
        found = compare(before, after, case.feeds)
        assert keeps(p, found), f"{p} declares {p.equal}, but {found}\n{before}\n{after}"


@given(
    case=random_graph(14),
    order=st.permutations([n for n in PASSES if registered()[n].stage in ("normalize", "optimize")]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
def test_any_order_of_passes_stays_equal(case, order):
    before = module_of(case)
    after = clone(before)
    for name in order:
        make(name).run(after.main, Context())
        after.main.sweep()
        verify(after)
    # Each pass may move the outputs by its own tolerance.
    assert compare(before, after, case.feeds).error <= 1e-5 * len(order)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_says_what_it_is(name):
    cls = registered()[name]
    assert cls.__doc__ and cls.stage and cls.equal is not None
    assert str(make(str(cls()))) == str(cls())

"""Every op of the registry, drawn at random: type rule = numpy's shape, text and back, numpy = PyTorch."""

from __future__ import annotations

import math

import numpy as np
import op_cases
import pytest
import torch_ops
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from speechc.ir import interpreter, ops, text, verifier  # noqa: F401  (ops registers the core ops)
from speechc.ir.ops.pointwise import _erf
from speechc.ir.registry import OPS

KINDS = sorted(OPS)
quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def test_every_op_has_a_case_and_a_peer():
    table = op_cases._table()
    assert not set(OPS) - set(table), "an op without an entry in op_case_table.py"
    assert not set(OPS) - set(torch_ops.TORCH), "an op without an entry in torch_ops.py"


@pytest.mark.parametrize("kind", [*KINDS, *sorted(set(op_cases._table()) - set(KINDS))])
def test_rule_and_text(kind):
    @quick
    @given(op_cases.op_case(kind, floats=("f32", "f64", "f16")), st.integers(1, 4))
    def check(case, more):
        verifier.verify(case.module)
        for feeds in (case.feeds, case.longer(more)):
            interpreter.run(case.graph, feeds, interpreter.initial_states(case.graph))  # checks each result's type
        again = text.parse_module(str(case.module))
        assert str(again) == str(case.module)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_is_pytorch(kind):
    @quick
    @given(op_cases.op_case(kind, floats=("f64",)))
    def check(case):
        ours = interpreter.run(case.graph, case.feeds, interpreter.initial_states(case.graph))
        theirs = torch_ops.run(case.graph, case.feeds, case.sizes)
        for a, b in zip(ours, theirs, strict=True):
            # float64 with sums in another order; PyTorch's quantized arithmetic is float32.
            close(a, b, 1e-12 if a.dtype == np.float64 else 1e-6)

    check()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(op_cases.random_graph(10))
def test_random_graphs(case):
    verifier.verify(case.module)
    for feeds in (case.feeds, case.longer(3)):
        for y in interpreter.run(case.graph, feeds):
            assert np.isfinite(y).all()
    assert str(text.parse_module(str(case.module))) == str(case.module)


def test_erf_to_the_last_bits():
    x = np.concatenate([3 * np.random.default_rng(0).standard_normal(20000), [0, -0.0, 6, 7, 1e-300, 1e-20, np.inf]])
    wanted = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(_erf(x), wanted, rtol=4 * np.finfo(float).eps, atol=0)
    np.testing.assert_array_equal(_erf(-x), -_erf(x))
    assert np.isnan(_erf(np.array([np.nan]))).all()


def close(a: np.ndarray, b: np.ndarray, tolerance: float):
    assert a.shape == b.shape and a.dtype == b.dtype, (a.dtype, a.shape, b.dtype, b.shape)
    if a.dtype.kind != "f":
        np.testing.assert_array_equal(a, b)
        return
    finite = np.isfinite(b)
    np.testing.assert_array_equal(a[~finite], b[~finite])
    # Relative to the largest element, but to no less than the inputs' unit scale, below which there is only
    # cancellation.
    largest = max(1.0, np.abs(b[finite]).max(initial=0))
    worst = np.abs(a[finite] - b[finite]).max(initial=0) / largest
    assert worst <= tolerance, f"{worst:.2e} > {tolerance:.0e}"

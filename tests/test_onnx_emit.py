"""The ONNX target: every op and random graphs through onnxruntime against the interpreter; files, names, states."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import op_cases
import pytest
from hypothesis import HealthCheck, given, settings
from speechc.ir import interpreter, ops  # noqa: F401  (registers the core ops)
from speechc.ir.registry import OPS
from speechc.lowering.target import target

ONNX = target("onnx")
quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

# Ops and forms that the target declines in every form, with reasons in legal.py.
DECLINED = {"linear.dynamic.row"}


def emitted(case, folder, precision="float32", **options):
    (path, *_) = ONNX.emit(case.module, Path(folder) / "case.onnx", precision, options)
    return ONNX.load(path, threads=1)


def agree(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, (a.dtype, a.shape, b.dtype, b.shape)
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
            continue
        assert not np.isnan(a).any()
        # Relative to the largest element, or to the unit scale of the inputs where everything cancels.
        worst = np.abs(a.astype(np.float64) - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0))
        assert worst <= tolerance, f"{worst:.2e} > {tolerance:.0e}"


def same_at_two_lengths(case, tolerance, floats="float32"):
    with tempfile.TemporaryDirectory() as folder:
        session = emitted(case, folder, floats)
        states = interpreter.initial_states(case.graph)
        for feeds in (case.feeds, case.longer(3)):
            want = interpreter.run(case.graph, feeds, states)
            got = session.run(*(feeds[v.name] for v in case.graph.inputs))
            agree(got, want, tolerance)


def tolerance_of(kind: str) -> float:
    # float32 sums in another order; a dynamic scale may move a value across a rounding boundary: one step of 255.
    return 2e-2 if "dynamic" in kind else 1e-5


@pytest.mark.parametrize("kind", sorted(set(op_cases._table()) - DECLINED))
def test_op(kind):
    tried = []

    @quick
    @given(op_cases.op_case(kind))
    def check(case):
        if any(ONNX.illegal(op) for op in case.graph.ops):
            return
        tried.append(1)
        same_at_two_lengths(case, tolerance_of(kind))

    check()
    assert tried, f"{kind} is never legal"


def test_declined_and_unknown_kinds():
    from speechc.lowering.onnx.lower import load_all

    assert not set(OPS) - set(load_all()), "an op without a lowering"


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(op_cases.random_graph(10))
def test_random_graphs(case):
    if any(ONNX.illegal(op) for op in case.graph.ops):
        return
    same_at_two_lengths(case, 1e-5)

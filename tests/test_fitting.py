"""A file is proven at lengths that it takes: the sample's, the nearest, and a second one where there is one."""

import numpy as np
import pytest
from speechc.compiler.samples import fitting
from speechc.ir.expr import symbol
from speechc.ir.graph import Module
from speechc.ir.types import Tensor, time_input
from speechc.lowering.manifest import Manifest


@pytest.mark.parametrize(
    ("limits", "lengths", "expected"),
    [
        ([1, None], [], [60, 40]),
        ([50, 100], [], [60, 50]),
        ([80, 100], [], [80, 100]),
        ([80, 80], [], [80, 80]),
        ([1, 30], [], [30, 20]),
        ([1, None], [90, 200], [90, 200]),
        ([1, None], [90], [90, 90]),
    ],
)
def test_lengths_of_the_proof(limits, lengths, expected):
    graph = Module().graph("main")
    graph.input("x", Tensor("f32", [1, time_input(symbol("T"), "audio")]))
    manifest = Manifest("", "", "", [], [], limits={"T": limits}, lengths={"T": lengths} if lengths else {})
    feeds = [{"x": np.zeros((1, n), np.float32)} for n in (60, 40)]
    assert [feed["x"].shape[1] for feed in fitting(feeds, graph, manifest)] == expected

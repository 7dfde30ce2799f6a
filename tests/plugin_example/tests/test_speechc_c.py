"""The plugin's own tests: what its pass makes of a graph, and that its C means what the graph does."""

import re
from pathlib import Path

import numpy as np
import pytest
from speechc.compiler.manager import compare, keeps
from speechc.compiler.numerics import difference
from speechc.compiler.samples import draw
from speechc.ir.interpreter import run
from speechc.ir.text import clone, parse_module
from speechc.ir.weights import Weights
from speechc.lowering.target import target
from speechc.passes.base import Context, make

GOLDEN = Path(__file__).parent / "golden" / "recognise-snake.sir"
ALPHA = np.array([0.5, 0.8, 1.25, 2], np.float32).reshape(1, 4, 1)


def golden():
    head = GOLDEN.read_text().partition("// after\n")[0]
    weights = Weights()
    weights.add("alpha", ALPHA)
    weights.add("inverse", 1 / ALPHA)
    return parse_module(re.sub(r" *// .*", "", head), weights), head


def test_the_pass(request):
    module, head = golden()
    before, context = clone(module), Context()
    p = make("recognise-snake")
    p.run(module.main, context)
    if request.config.getoption("--update-golden", False):
        GOLDEN.write_text(f"{head}// after\n{module}")
    assert str(module) == GOLDEN.read_text().partition("// after\n")[2]
    assert [r.message for r in context.remarks if r.kind == "missed"] == re.findall(r"// missed: (.*)", head)
    assert keeps(p, compare(before, module, draw(module.main, {"T": 9})))


@pytest.mark.parametrize("length", [1, 7])
def test_the_target(length, tmp_path):
    module, _ = golden()
    make("recognise-snake").run(module.main, Context())
    path = tmp_path / "model.c"
    target("c").emit(module, path, "float32", {"prefix": "snakes"})
    feeds = draw(module.main, {"T": length})
    found = difference([target("c").load(path).run_named(feeds)["y"]], run(module.main, feeds))
    assert found.error < 1e-6, found

"""What authors of passes have from day one: dumps, printing, numeric verification, limits, bisection."""

import io
import json

import numpy as np
import pytest
from speechc.compiler.bisect import bisect, smallest
from speechc.compiler.driver import Settings, planned, read_subject, transform
from speechc.compiler.dump import PrintAfter
from speechc.compiler.localise import first_divergence
from speechc.compiler.manager import Manager
from speechc.compiler.reduce import write_reproducer
from speechc.ir import text
from speechc.ir.errors import IRError, NumericalError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Loc, Module
from speechc.ir.types import Tensor, time_input
from speechc.passes.base import PASSES, Context, Exact, Lossy, make, registered
from speechc.passes.rewrite import Rewrite


@pytest.fixture
def broken():
    """A rewrite that is wrong where it meets a relu in net.wrong, and right elsewhere."""
    before = dict(registered())

    class Broken(Rewrite):
        """relu(x) is max(x, 0), or so it says."""

        name, stage, equal = "broken", "normalize", Exact()

        def match(self, p, x):
            return p.relu(x)

        def build(self, g, m):
            if m.root.loc.path == "net.wrong":
                return g.abs(m.x)
            return g.maximum(m.x, g.const(0, "f32"))

    yield Broken()
    PASSES.clear()
    PASSES.update(before)


def example() -> Module:
    """Four rectifiers; the third sits in net.wrong."""
    module = Module()
    graph = module.graph("main")
    v = graph.input("x", Tensor("f32", [1, time_input(symbol("T"), "audio")]))
    b = Builder(graph)
    for path in ("net.one", "net.two", "net.wrong", "net.four"):
        with b.at(Loc(path, "ReLU", "net.py:3")):
            v = b.cos(b.mul(b.relu(v), b.const(4.0, "f32")))
    graph.output(v, "y")
    return module


FEEDS = {"x": np.linspace(-2, 2, 50, dtype=np.float32)[None]}


def test_numeric_verification_names_the_pass(broken):
    module = example()
    with pytest.raises(NumericalError, match="pass broken declares exact"):
        Manager(verify_each="numeric", feeds=FEEDS).run(module, [make("simplify"), broken])


def test_types_alone_do_not_see_it(broken):
    steps = Manager().run(example(), [broken])
    assert steps[0].changed and steps[0].changes == 4


def test_bisection_finds_the_pass_and_the_rewrite(broken):
    found = bisect(example(), [make("simplify"), broken, make("cse")], FEEDS, Context())
    assert (found.index, found.pass_name, found.change) == (2, "broken", 3)
    differing = [o for o in found.after.main.ops if o.kind == "abs"]
    assert [o.loc.path for o in differing] == ["net.wrong"]
    assert not [o for o in found.before.main.ops if o.kind == "abs"]


def test_bisection_of_good_passes_finds_nothing():
    assert bisect(example(), [make("simplify"), make("cse")], FEEDS, Context()) is None


def test_a_failing_graph_shrinks_to_the_op_that_fails(broken, tmp_path):
    found = bisect(example(), [broken], FEEDS, Context())
    small = smallest(found, Context())
    assert [op.kind for op in small.main.ops] == ["relu"]
    assert [op.loc.path for op in small.main.ops] == ["net.wrong"]
    command = write_reproducer(small, tmp_path / "repro", str(broken))
    assert command == f"speechc opt {tmp_path}/repro/repro.sir -p 'broken' --verify-each=numeric"
    again = read_subject(tmp_path / "repro" / "repro.sir")
    with pytest.raises(NumericalError, match="broken declares exact"):
        Manager(verify_each="numeric", feeds=again.sample).run(again.module, [broken])


def test_where_a_file_parts_from_its_graph(monkeypatch):
    from speechc.lowering.onnx.lower import load_all
    from speechc.lowering.target import target

    module, onnx, table = example(), target("onnx"), load_all()
    assert first_divergence(module, onnx, FEEDS, "float32", 1e-5) is None
    monkeypatch.setitem(table, "cos", table["sin"])
    found = first_divergence(module, onnx, FEEDS, "float32", 1e-5)
    assert found.op == "cos" and "net.one" in found.loc  # the relu and the product before it agree


def test_a_limit_stops_rewrites(broken):
    module, context = example(), Context(limit=2)
    Manager(context).run(module, [broken])
    assert [op.kind for op in module.main.ops].count("maximum") == 2
    assert context.changes == 2


def test_a_dump_holds_what_changed_and_runs_alone(tmp_path):
    text.save(example(), tmp_path / "g.sir")
    subject = read_subject(tmp_path / "g.sir")
    passes = ["simplify", "cse", "fuse-activation", "dce"]
    settings = Settings(passes=passes, dump=tmp_path / "ir", verify_each="numeric")
    transform(subject, settings, Context(), planned(subject, settings, False), lambda what: None)
    names = sorted(p.name for p in (tmp_path / "ir").iterdir())
    assert names[0] == "00-captured.sir" and {"remarks.txt", "timings.json", "weights.safetensors"} <= set(names)
    timings = json.loads((tmp_path / "ir" / "timings.json").read_text(), parse_constant=pytest.fail)
    changed = [f"{i:02d}-{t['name']}.sir" for i, t in enumerate(timings, 1) if t["changed"]]
    assert [n for n in names if n.endswith(".sir")] == ["00-captured.sir", *changed]
    again = read_subject(tmp_path / "ir" / "00-captured.sir")
    assert str(again.module.main) == str(example().main)


def test_printing_after_a_pass(broken):
    for which, times in (("broken", 1), ("all", 2), ("changed", 1), ("cse", 1)):
        stream = io.StringIO()
        Manager(observers=[PrintAfter(which, stream)]).run(example(), [broken, make("cse")])
        assert stream.getvalue().count("// after") == times


def test_a_replacement_of_another_type_is_refused(broken):
    broken.build = lambda g, m: g.cast(m.x, dtype="f64")
    module, context = example(), Context()
    broken.run(module.main, context)
    assert str(module) == str(example())
    assert any("the result would be f64" in str(r) for r in context.remarks)


def test_a_rewrite_without_end_is_stopped(broken):
    broken.build = lambda g, m: g.relu(g.relu(m.x))
    with pytest.raises(IRError, match="does not come to an end"):
        broken.run(example().main, Context())


def test_options_print_and_parse(broken):
    before = dict(registered())

    class Prune(Rewrite):
        """Nothing yet."""

        name, stage, equal = "prune-nothing", "compress", Lossy("snr", 20)
        heads: float = 0.5
        keep: str = ""

    try:
        made = make('prune-nothing{heads=0.25, keep="encoder.*"}')
        assert (made.heads, made.keep) == (0.25, "encoder.*")
        assert str(make(str(made))) == str(made) == "prune-nothing{heads=0.25, keep='encoder.*'}"
    finally:
        PASSES.clear()
        PASSES.update(before)

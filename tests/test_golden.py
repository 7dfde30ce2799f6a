"""Golden before/after graphs, one file a rewrite: `tests/golden/*.sir`; `--update-golden` writes the second half.

A file opens with `// pass: NAME{options}`; then the graph before, `// after`, and the graph after. A line that ends in
`// missed: TEXT` is an op that the pass must leave alone, saying so. Weights hold random values, the same every time.
"""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from speechc.compiler.manager import compare, evaluate64, keeps
from speechc.compiler.numerics import difference
from speechc.compiler.samples import draw, free_symbols
from speechc.ir.errors import IRError
from speechc.ir.graph import Module
from speechc.ir.text import clone, parse_module, print_module
from speechc.ir.types import DTYPES
from speechc.ir.verifier import verify
from speechc.passes.add_front_end import feature_port
from speechc.passes.base import Composed, Context, make
from speechc.passes.front_end.reference import graph_of
from speechc.passes.front_end.spec import parse

FILES = sorted((Path(__file__).parent / "golden").glob("*.sir"))


def read(path):
    text = path.read_text()
    head, _, after = text.partition("// after\n")
    p = make(re.match(r"// pass: (.*)", head)[1])
    missed = re.findall(r"// missed: (.*)", head)
    module = parse_module(re.sub(r" *// .*", "", head))
    for w in module.weights:
        random = np.random.default_rng(zlib.crc32(w.name.encode()))
        array = random.uniform(0.5, 1.5, w.type.sizes).astype(DTYPES[w.type.dtype])
        w._load, w._digest = lambda array=array: array, None
    return p, module, missed, head, after


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_golden(path, request):
    p, module, missed, head, expected = read(path)
    before, context = clone(module), Context()
    verify(module)
    p.run(module.main, context)
    module.main.sweep()
    verify(module)
    made = print_module(module)
    if isinstance(p.equal, Composed):
        made = re.sub(r"(weight \$front_end\.[^#]*)#\w+", r"\1#?", made)  # a cosine's last bit is the machine's
    if request.config.getoption("--update-golden"):
        path.write_text(f"{head}// after\n{made}")
    else:
        assert made == expected
    assert made != print_module(before) or missed, "this file shows nothing"
    said = [r.message for r in context.remarks if r.kind == "missed"]
    for text in missed:
        assert any(text.strip() in s for s in said), f"no missed remark says {text!r}: {said}"
    long = 999 if isinstance(p.equal, Composed) else 37
    feeds = draw(module.main, {name: long for name in free_symbols(module.main)})
    if isinstance(p.equal, Composed):
        found = difference(evaluate64(module, feeds), evaluate64(before, {"x": computed(p, before, feeds["audio"])}))
    else:
        found = compare(before, module, feeds)
    assert keeps(p, found), f"{p} declares {p.equal}, but {found}"


def computed(p, before, audio):
    """What a front end makes of audio, in float64, as the input x of the graph before takes it."""
    spec = parse(p.spec)
    (features,) = evaluate64(Module({"features": (graph := graph_of(spec))}, graph.weights), {"audio": audio})
    return features.transpose(0, 2, 1) if feature_port(before.main, spec).frames == 2 else features


def test_every_rewrite_has_a_golden_file():
    from speechc.passes.base import registered
    from speechc.passes.rewrite import Rewrite

    shown = {re.match(r"// pass: ([\w-]+)", f.read_text())[1] for f in FILES}
    rewrites = {n for n, cls in registered().items() if issubclass(cls, Rewrite)}
    assert rewrites <= shown, f"no golden file for {sorted(rewrites - shown)}"


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent / "golden" / "errors").glob("*.sir")), ids=lambda p: p.stem
)
def test_the_line_marked_error_fails(path):
    lines = path.read_text().splitlines()
    (number, wanted), *more = [
        (n, line.partition("// error: ")[2]) for n, line in enumerate(lines, 1) if "// error" in line
    ]
    assert not more
    with pytest.raises(IRError, match=re.escape(wanted)) as error:
        parse_module("\n".join(re.sub(r" *// .*", "", line) for line in lines))
    assert f"line {number}" in error.value.where

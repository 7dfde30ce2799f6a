"""The examples in the documentation run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest
import speechc
from speechc.passes.base import PASSES, registered

DOCS = Path(speechc.__file__).parent / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S)


@pytest.fixture
def own_tables():
    """What a page registers is forgotten after it."""
    from speechc.ir.registry import OPS, definition
    from speechc.passes.stream.rules import load

    definition("relu")
    registered()
    tables = [PASSES, OPS, load()]
    before = [dict(t) for t in tables]
    yield
    for table, old in zip(tables, before):
        table.clear()
        table.update(old)


@pytest.mark.parametrize(
    "page",
    ["write-a-pass.md", "write-an-op.md", pytest.param("streaming.md", marks=pytest.mark.slow)],
)
def test_page_runs(page, own_tables, tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(DOCS.parent / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page"}
    code = blocks(page)
    assert code, f"{page} shows no code"
    for block in code:
        exec(compile(block, page, "exec"), names)


def test_excerpts_are_the_example_s_own_text():
    """`docs/write-a-target.md` explains a package that other tests install and run; `…` stands between excerpts."""
    page, example = (DOCS / "write-a-target.md").read_text(), DOCS.parent / "tests" / "plugin_example"
    files = [p for p in example.rglob("*") if p.suffix in (".py", ".c", ".toml")]
    excerpts = [part.strip("\n") for block in re.findall(r"```(?:python|c|toml)\n(.*?)```", page, re.S)
                for part in block.split("…\n")]  # fmt: skip
    bare = lambda text: "\n".join(line.strip() for line in text.splitlines() if line.strip())
    assert len(excerpts) > 15
    for excerpt in excerpts:
        assert any(bare(excerpt) in bare(p.read_text()) for p in files), f"no file of the example says\n{excerpt}"
    for path in (example / "speechc_c").glob("*.*"):
        assert path.name in page, f"the page does not mention {path.name}"


def test_the_proof_of_the_rule_notices(own_tables):
    op, rule, proof = blocks("streaming.md")[-3:]
    masked = next(line for line in rule.splitlines(keepends=True) if "step.masked" in line)
    names: dict = {"__name__": "page", "np": np}
    for block in (op, rule.replace(masked, "")):
        exec(compile(block, "page", "exec"), names)
    with pytest.raises(AssertionError):
        exec(compile(proof, "page", "exec"), names)


def test_pages_name_files_that_exist():
    root = DOCS.parent
    for page in [*DOCS.glob("*.md"), root / "README.md"]:
        for name in re.findall(
            r"`((?:ir|passes|lowering|compiler|tests|docs|examples|benchmarks)/[\w/.-]+\.\w+)`", page.read_text()
        ):
            if "relu-twice" not in name and "<" not in name:
                assert (root / name).exists(), f"{page.name} names {name}"


def test_every_code_has_one_row():
    root = DOCS.parent
    sources = [p for folder in ("ir", "passes", "lowering", "compiler") for p in (root / folder).rglob("*.py")]
    used = {code for p in sources for code in re.findall(r"\bSC\d{3}\b", p.read_text())}
    rows = re.findall(r"^\| (SC\d{3}) \|", (DOCS / "errors.md").read_text(), re.M)
    assert len(rows) == len(set(rows)), "a code has two rows"
    assert used == set(rows), (
        f"not in the table: {sorted(used - set(rows))}; not in the source: {sorted(set(rows) - used)}"
    )

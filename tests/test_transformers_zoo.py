"""The speech classes of transformers, unmodified: ONNX and TFLite files equal the original, as `docs/models.md` says.

`--update-golden` writes the rows of the page.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import speechc
from models import Case
from models.zoo import ZOO
from speechc.compiler import driver
from speechc.ir.errors import SpeechcError
from speechc.ir.text import clone

PAGE = Path(speechc.__file__).parent / "docs" / "models.md"
TARGETS = ("onnx", "tflite")
# Of the largest value: float32 through tens of layers, summed in another order.
FLOAT32 = 1e-4
EQUAL, NO_MASK = "equal", "–"
HEAD = "| class | takes | ONNX | TFLite | padded batch, ONNX | padded batch, TFLite | recipe |"
RULE = "|---|---|---|---|---|---|---|"


def compiled(case: Case, lengths: tuple[int, ...], folder: Path) -> tuple[list[str], list[str]]:
    """What each target says of a case, "equal" or its error; and the recipes that capture used."""
    try:
        subject = driver.read_subject(case.module, case.inputs, case.time_axis)
    except SpeechcError as error:
        return [said(error)] * len(TARGETS), []
    recipes = re.findall(r"stands in for (\w+) of (\w+) ", "\n".join(subject.module.meta.get("notes", ())))
    found = []
    for target in TARGETS:
        one = driver.Subject(clone(subject.module), subject.reference, subject.sample, subject.name)
        try:
            report = driver.build(one, driver.Settings(target, output=folder))
        except SpeechcError as error:
            found.append(said(error))
        else:
            assert_equal(report.artefact, case, subject.reference, lengths)
            found.append(EQUAL)
    return found, [f"`{cls}.{method}`" for method, cls in recipes]


def assert_equal(path: Path, case: Case, reference, lengths: tuple[int, ...]) -> None:
    session = driver.open_artefact(path)
    names = [p.name for p in session.manifest.outputs]
    for n in lengths:
        feeds = case.make_inputs(n)
        got = session.run_named({name: np.ascontiguousarray(a) for name, a in feeds.items()})
        for name, want in zip(names, reference(feeds), strict=True):
            a = got[name]
            assert a.shape == want.shape and a.dtype == want.dtype, f"{name} at {n}"
            if want.dtype.kind == "f":
                assert np.abs(a - want).max() <= FLOAT32 * np.abs(want).max(), f"{name} at {n}"
            else:
                assert np.array_equal(a, want), f"{name} at {n}"


def said(error: SpeechcError) -> str:
    return f"{error.code}: {error.message}".replace("|", "/")


def made_row(name: str, folder: Path) -> str:
    """The row of a class in the page, from compiling it."""
    species = ZOO[name]
    plain, recipes = compiled(species.build(), species.lengths, folder)
    padded = [NO_MASK] * len(TARGETS)
    if species.masked:
        padded, more = compiled(species.build(padded=True), species.lengths, folder)
        recipes = list(dict.fromkeys(recipes + more))
    return f"| {' | '.join([name, species.takes, *plain, *padded, ', '.join(recipes)])} |".replace("  ", " ")


def rows() -> dict[str, str]:
    """The rows of the page, by class."""
    lines = PAGE.read_text().splitlines()
    first = lines.index(HEAD) + 2
    last = next(i for i in range(first, len(lines) + 1) if i == len(lines) or not lines[i].startswith("|"))
    return {line.split("|")[1].strip(): line for line in lines[first:last]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_class(name, tmp_path, request):
    """Captured unmodified, compiled, and equal at three lengths: what the page says is what is found."""
    row, old = made_row(name, tmp_path), rows().get(name)
    print(row)
    if request.config.getoption("--update-golden"):
        text = PAGE.read_text()
        if old is None:  # behind the last row
            old = [HEAD + "\n" + RULE, *rows().values()][-1]
            row = f"{old}\n{row}"
        PAGE.write_text(text.replace(old, row))
    else:
        assert row == old


def test_the_page_has_every_class():
    """One row a class, and at least 15 of the 18 on both targets."""
    assert list(rows()) == list(ZOO)
    works = [
        r for r in rows().values() if r.count(EQUAL) >= 2 and [c.strip() for c in r.split("|")][3:5] == [EQUAL] * 2
    ]
    assert len(works) >= 15

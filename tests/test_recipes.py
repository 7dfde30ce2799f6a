"""Module recipes: applied while a model is exported and at no other time, told to the user, and held to the proof."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import speechc
import torch
from speechc.compiler import driver
from speechc.compiler.capture import capture, recipes
from speechc.compiler.capture.recipes import RECIPES, recipe, registered, replacement
from speechc.ir.errors import CaptureError, NumericalError
from speechc.ir.interpreter import run
from test_plugin import install
from test_plugin import speechc as command
from torch import nn

PAGE = Path(speechc.__file__).parent / "docs" / "models.md"


@pytest.fixture(autouse=True)
def own_table():
    """What a test registers is forgotten after it."""
    before = dict(registered())
    yield
    RECIPES.clear()
    RECIPES.update(before)


class Half(nn.Module):
    """Every other frame, counted in Python."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([2.0, 3.0]))

    def forward(self, x):
        return self.gain * x[:, : self.frames(x)]

    def frames(self, x):
        return int(x.shape[1] * 0.5)


class Inherits(Half):
    pass


class OwnFrames(Half):
    def frames(self, x):
        return x.shape[1] // 3


class Model(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        return [part(x) for part in self.parts]


HALF = f"{__name__}.Half"
SAMPLE = {"x": np.ones((1, 8, 2), np.float32)}


def halves():
    @recipe(HALF, "counted by //", method="frames")
    def _(module, original, x):
        assert isinstance(module, Half) and original.__self__ is module
        return x.shape[1] // 2


def outputs(module, n):
    x = np.random.default_rng(n).standard_normal((1, n, 2), dtype=np.float32)
    return run(module.main, {"x": x}), x


def test_a_recipe_stands_in_for_a_method():
    with pytest.raises(CaptureError, match="SC413"):
        capture(Half(), SAMPLE)
    halves()
    model = Model(Half(), OwnFrames(), Inherits()).eval()
    module = capture(model, SAMPLE)
    ys, x = outputs(module, 11)
    for y, factor in zip(ys, (2, 3, 2), strict=True):
        np.testing.assert_allclose(y, x[:, : 11 // factor] * [2, 3], rtol=1e-6)
    note = "a recipe stands in for frames of Half (parts.0 and 1 more): counted by //"
    assert module.meta["notes"] == [note]
    assert all("frames" not in vars(part) and "forward" not in vars(part) for part in model.parts)


def test_a_recipe_that_was_not_called_is_not_told():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = Half()

        def forward(self, x):
            return x + 1

    halves()
    assert "notes" not in capture(Unused().eval(), SAMPLE).meta


def test_the_model_is_as_it_was_when_export_fails():
    @recipe(HALF, "fails")
    def _(module, original, x):
        raise ValueError("no")

    @replacement(f"{__name__}.OwnFrames", "another")
    def _(module):
        return nn.Identity()

    model = Model(Half(), OwnFrames())
    before = list(model.parts)
    with pytest.raises(CaptureError, match="SC414"):
        capture(model, SAMPLE)
    assert list(model.parts) == before and "forward" not in vars(model.parts[0])


def test_a_module_is_replaced_with_its_weights():
    class Whole(nn.Module):
        def __init__(self, gain):
            super().__init__()
            self.gain = gain

        def forward(self, x):
            return self.gain * x[:, : x.shape[1] // 2]

    @replacement(HALF, "as //")
    def _(module):
        return Whole(module.gain)

    model = Model(Half(), Half()).eval()
    module = capture(model, SAMPLE)
    for y in outputs(module, 9)[0]:
        assert y.shape == (1, 4, 2)
    assert module.meta["notes"] == ["a recipe stands in for all of Half (parts.0 and 1 more): as //"]
    assert {w.name for w in module.weights} == {"parts.0.gain", "parts.1.gain"}
    assert type(model.parts[0]) is Half
    alone = capture(Half().eval(), SAMPLE)  # the model itself
    assert outputs(alone, 9)[0][0].shape == (1, 4, 2) and "((model))" in alone.meta["notes"][0]


@pytest.mark.slow
def test_a_wrong_recipe_does_not_pass(tmp_path):
    @recipe(HALF, "wrong")
    def _(module, original, x):
        return module.gain * x[:, x.shape[1] // 2 :][:, : x.shape[1] // 2]

    subject = driver.read_subject(Half(), {"x": np.arange(16, dtype=np.float32).reshape(1, 8, 2)})
    with pytest.raises(NumericalError, match="SC502"):
        driver.build(subject, driver.Settings("onnx", output=tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_there_is_twice_is_an_error():
    halves()
    with pytest.raises(TypeError, match=r"two recipes for frames of .*Half"):
        halves()
    recipe(HALF, "another method")(lambda module, forward, x: x)
    with pytest.raises(TypeError, match="for a method"):
        recipe(HALF, "the whole", method="")


def test_recipes_import_neither_torch_nor_their_models():
    code = "import sys, speechc.compiler.capture.recipes\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    for name in recipes.FILES:
        text = (Path(recipes.__file__).parent / f"{name}.py").read_text()
        assert not re.search(r"^\s*(import|from) transformers", text, re.M)
    assert sorted(recipes.FILES) == sorted(
        p.stem for p in Path(recipes.__file__).parent.glob("*.py") if p.stem not in ("__init__", "cook")
    )


@pytest.mark.slow
def test_a_plugin_brings_recipes(tmp_path):
    """A model and a recipe for it, each in a package of its own; one recipe too many is the plugin's fault."""
    source = (
        "import torch\n\nclass Half(torch.nn.Module):\n"
        "    def forward(self, x):\n        return x[:, : int(x.shape[1] * 0.5)]\n"
    )
    own = (
        "from speechc.compiler.capture.recipes import recipe\n\n"
        "@recipe('halves.Half', 'counted by //')\n"
        "def _(module, forward, x):\n    return x[:, : x.shape[1] // 2]\n"
    )
    site = tmp_path / "site"
    install(site, "halves", {"halves.py": source}, {})
    status, _, err = command("halves:Half", "--input", "x=f32[1,T,3]", "--target", "onnx", site=site, cwd=tmp_path)
    assert status == 3 and "SC413" in err
    install(site, "recipes", {"more_recipes.py": own}, {"recipes": "more_recipes"})
    status, out, err = command("halves:Half", "--input", "x=f32[1,T,3]", "--target", "onnx", site=site, cwd=tmp_path)
    assert status == 0, err
    assert "a recipe stands in for forward of Half ((model)): counted by //" in " ".join((out + err).split())
    again = own.replace("halves.Half", "transformers.models.sew.modeling_sew.SEWEncoder")
    install(tmp_path / "bad", "again", {"again.py": again}, {"again": "again"})
    site = f"{tmp_path / 'bad'}{os.pathsep}{site}"
    status, _, err = command("halves:Half", "--input", "x=f32[1,T,3]", "--target", "onnx", site=site, cwd=tmp_path)
    assert status == 2 and "SC066" in err and "again" in err and "two recipes for forward of" in " ".join(err.split())


def test_the_page_names_every_recipe(request):
    own = {key: r for key, r in registered().items() if r.cook.__module__.startswith(recipes.__name__)}
    lines = [f"| `{cls}`, {method or 'all of it'} | {r.why} |" for (cls, method), r in sorted(own.items())]
    text = PAGE.read_text()
    head = "| recipe | why |\n|---|---|\n"
    table = re.search(re.escape(head) + r"((?:\|.*\n)*)", text)
    if request.config.getoption("--update-golden"):
        PAGE.write_text(text.replace(table[0], head + "".join(f"{line}\n" for line in lines)))
    else:
        assert table[1].splitlines() == lines


@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        exec(compile(block, "models.md", "exec"), names)
